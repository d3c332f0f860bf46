"""The results page of the documentation, from the committed results."""

import json
from pathlib import Path

import readme_tables

RESULTS = Path(__file__).parent / "results"


def page():
    """Return the page, in Markdown."""
    parts = [
        "# Results",
        "Every number on this page comes from a script in `benchmarks/` or a recipe, and stands in a file in "
        "`benchmarks/results/` together with the versions and the machine. Nothing here is typed by hand.",
        "## Quickstart",
        "`make quickstart`: MiniLM-L6 fine-tuned on Rotten Tomatoes sentences teaches its own 3-layer cut; 1,000 "
        "sentences are held out. The interval is a 95 % bootstrap; ms is the median of one text of 128 tokens on one "
        "thread.",
        readme_tables.quickstart(),
        "## What a step costs",
        "`make bench`: batch 32, the steps taking turns in one run.",
        readme_tables.distillation(),
        "## What an exported file is worth",
        export(),
        "## What each way of teaching is worth",
        quality(),
        "## Memory of large vocabularies",
        memory(),
    ]
    return "\n\n".join(parts) + "\n"


def quality():
    """Return the table of `quality.py`, or say that it was not run."""
    record = read("distillation_quality")
    if not record.get("cells"):
        return (
            "`python benchmarks/quality.py` compares losses and kinds of text over several seeds. It was not run yet."
        )
    import quality as benchmark

    return f"`python benchmarks/quality.py`: {record['what']}\n\n{benchmark.table()}"


def export():
    """Return the tables of `export.py`, or say that it was not run."""
    record = read("export")
    if not record.get("models"):
        return "`python benchmarks/export.py` compares our files with Optimum's. It was not run yet."
    import export as benchmark

    threads = record["settings"]["threads"]
    text = (
        "`make bench-export`: our files against those of Optimum's command line, made from the same checkpoints "
        f"and timed in turns in one run, threads: {threads}; 1,000 Rotten Tomatoes sentences are held out. Seconds and "
        "memory are those of the exporting process with its children, the int8 file included in ours and in the rows "
        "of the preset."
    )
    return f"{text}\n\n{benchmark.table(record)}"


def memory():
    """Return the table of `vocabulary_memory.py`, or say that it was not run."""
    record = read("vocabulary_memory")
    if not record.get("cases"):
        return "`python benchmarks/vocabulary_memory.py` compares logits whole and in parts. It was not run yet."
    lines = ["| vocabulary | length | logits | step MiB | peak MiB | seconds a step |", "|---|---|---|---|---|---|"]
    for case in record["cases"]:
        numbers = f"{case['step_mb']:.0f} | {case['peak_mb']:.0f} | {case['seconds']:.2f}"
        lines.append(f"| {case['vocabulary']:,} | {case['length']} | {case['logits']} | {numbers} |")
    return f"`python benchmarks/vocabulary_memory.py`: {record['what']}.\n\n" + "\n".join(lines)


def read(name):
    """Return a result, or nothing where there is none."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else {}
