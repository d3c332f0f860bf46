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
        "## What pruning without training costs",
        pruning(),
        "## Movement against magnitude",
        movement(),
        "## What low rank without training costs",
        low_rank(),
        recovery(),
        convolutions(),
        "## Fewer bits",
        quantization(),
        qat(),
        "## Shared weights in a packed file",
        deep_compression(),
        "## Fewer words",
        vocabulary(),
        "## Fewer filters",
        filters(),
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


def pruning():
    """Return the tables of `pruning.py`, or say that it was not run."""
    record = read("pruning")
    if not record.get("cells"):
        return "`python benchmarks/pruning.py` compares `fisher` with others' pruning. It was not run yet."
    import pruning as benchmark

    text = (
        "`python benchmarks/pruning.py`: heads and neurons are removed until a share of the encoder's "
        "multiply-accumulates (MACs) is left, from 2,048 training sentences; 1,000 are held out. The difference is to "
        "the dense model on the same sentences, mean and range over seeds. `torch-pruning` is Torch-Pruning 1.6.1 with "
        "its importance by Taylor expansion, confined to heads and neurons or, as in its own BERT example, free to "
        "take from the hidden size too (`-all`); `torch-prune` is `torch.nn.utils.prune`, which only sets zeros: its "
        "parameters are counted without them, its work stays that of the dense model. Reloads: by plain "
        "`from_pretrained`. `fisher+distilled` is two epochs of distillation from the dense model afterwards."
    )
    return f"{text}\n\n{benchmark.tables(record)}"


def low_rank():
    """Return the tables of `low_rank.py`, or say that it was not run."""
    record = read("low_rank")
    if not record.get("cells"):
        return "`python benchmarks/low_rank.py` compares ways to factorize. It was not run yet."
    import low_rank as benchmark

    text = (
        "`python benchmarks/low_rank.py`: the encoder's linear layers keep a share of their parameters, from 512 "
        "training sentences; accuracy on 1,000 held-out ones, in points beside the dense model's, mean and range over "
        "seeds. Ranks are the same share of each layer's break-even (alike), or a budget is shared out (shared)."
    )
    return f"{text}\n\n{benchmark.tables(record)}"


def recovery():
    """Return the table of `recovery.py`, or say that it was not run."""
    record = read("recovery")
    if not record.get("cells"):
        return "`python benchmarks/recovery.py` lets a model of low rank learn for an epoch. It was not run yet."
    import recovery as benchmark

    text = (
        f"`python benchmarks/recovery.py`: MiniLM-L6 ({record['dense']:.1%}) at half of its encoder's linear "
        "parameters, then one epoch in which it learns from itself as it was; means and ranges over seeds."
    )
    return f"{text}\n\n{benchmark.table(record)}"


def convolutions():
    """Return the tables of `convolutions.py`, or say that it was not run."""
    record = read("convolutions")
    if not record.get("cells"):
        return "`python benchmarks/convolutions.py` factorizes a ResNet. It was not run yet."
    import convolutions as benchmark

    text = (
        "`python benchmarks/convolutions.py`: a narrow ResNet-18, distilled from a narrow ResNet-50 on scikit-learn's "
        "digits (a third held out, 599 images), is factorized to 48 % of its multiply-accumulates (MACs). Points are "
        "to the student as it was, mean and range over three seeds (one for `tucker, plain`); times are of the first "
        "seed, on one thread, and in parentheses how many times as fast as the dense student. The machine was shared."
    )
    return f"{text}\n\n{benchmark.tables(record)}"


def quantization():
    """Return the tables of `quantization.py`, or say that it was not run."""
    record = read("quantization")
    if not record.get("latency"):
        return "`python benchmarks/quantization.py` compares ways to quantize. It was not run yet."
    import quantization as benchmark

    text = (
        "`python benchmarks/quantization.py`: points are to the float model on 1,000 held-out sentences, with a 95 % "
        "interval for the difference; times are medians on one thread, the files taking turns. The files of MPNet-base "
        "were made by one thread and timed on a machine that other work shared, those of MiniLM-L6 on an idle one."
    )
    return f"{text}\n\n{benchmark.tables(record)}"


def qat():
    """Return the table of `qat.py`, or say that it was not run."""
    record = read("qat")
    if not record.get("cells"):
        return "`python benchmarks/qat.py` compares training with rounding to rounding alone. It was not run yet."
    import qat as benchmark

    text = f"`python benchmarks/qat.py`: MiniLM-L6 ({record['dense']:.1%}), one epoch with rounding, taught by itself."
    return f"{text}\n\n{benchmark.table(record)}"


def deep_compression():
    """Return the tables of `deep_compression.py`, or say that it was not run."""
    record = read("deep_compression")
    if not record.get("cells"):
        return "`python benchmarks/deep_compression.py` shares weights and packs them. It was not run yet."
    import deep_compression as benchmark

    text = (
        f"`python benchmarks/deep_compression.py`: MiniLM-L6 ({record['dense']:.1%}); a `.hfz` holds the whole folder, "
        "tokenizer included."
    )
    return f"{text}\n\n{benchmark.tables(record)}"


def movement():
    """Return plot and table of `movement.py`, or say that it was not run."""
    record = read("movement")
    if not record.get("cells"):
        return "`python benchmarks/movement.py` compares movement with magnitude pruning. It was not run yet."
    import movement as benchmark

    text = (
        f"`python benchmarks/movement.py`: MiniLM-L6 ({record['dense']:.1%}), three epochs, taught by itself as it "
        "was; the same weights to choose from, the same cubic schedule. Single weights become zero: that saves no time."
    )
    plot = "![Accuracy against zeros, movement and magnitude](movement.svg)"
    return f"{text}\n\n{plot}\n\n{benchmark.table(record)}"


def plots():
    """Return the plots of the page, by their file's name."""
    record = read("movement")
    if not record.get("cells"):
        return {}
    import movement as benchmark

    return {"movement.svg": benchmark.plot(record)}


def vocabulary():
    """Return the table of `vocabulary.py`."""
    record = read("vocabulary")
    before = record["before"]
    lines = [
        "| kept | tokens | parameters | words' table smaller | training predictions changed | held-out accuracy |",
        "|---|---|---|---|---|---|",
        f"| all | {before['tokens']:,} | {before['parameters'] / 1e6:.1f} M | | | {before['accuracy']:.1%} |",
    ]
    for name, case in record["cases"].items():
        changed = case.get("training_predictions_changed", "")
        lines.append(
            f"| {name} | {case['tokens']:,} | {case['parameters'] / 1e6:.1f} M | {case['embeddings_smaller']:.1%} "
            f"| {changed} | {case['accuracy']:.1%} |"
        )
    text = f"`python benchmarks/vocabulary.py`: {record['what']}"
    return f"{text}\n\n" + "\n".join(lines)


def filters():
    """Return the table of `filters.py`."""
    record = read("filters")
    columns = ("pruned", "batch_norms_anew", "one_epoch_later")
    lines = [
        "| scope | importance | MACs left | pruned | batch norms anew | one epoch later |",
        "|---|---|---|---|---|---|",
    ]
    for case in record["cases"]:
        accuracies = " | ".join(f"{case[column]:.1%}" for column in columns)
        lines.append(f"| {case['scope']} | {case['importance']} | {case['macs']:.1%} | {accuracies} |")
    dense = record["dense"]["accuracy"]
    text = f"`python benchmarks/filters.py`: {record['what']} (dense: {dense:.1%})."
    return f"{text}\n\n" + "\n".join(lines)


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
