"""Writes the tables of the README from the committed results: `python benchmarks/readme_tables.py`."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def quickstart():
    """Quality, size and latency of the quickstart's teacher and student, and how long the run took."""
    record = json.loads((RESULTS / "quickstart.json").read_text())
    rows = record["results"]
    first = rows[0]
    lines = [
        "| model | accuracy % (95 %) | kept | parameters | MB | GMACs | ms | time ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        value, base = (r["quality"]["metrics"]["accuracy"] for r in (row, first))
        low, high = (100 * bound for bound in row["quality"]["interval"])
        kept, ratio = ("", "") if row is first else (f"{100 * value / base:.1f} %", f"{row['latency']['ratio']:.2f}")
        lines.append(
            f"| {row['name']} | {100 * value:.1f} ({low:.1f}–{high:.1f}) | {kept} | {row['parameters'] / 1e6:.1f} M "
            f"| {row['bytes'] / 1e6:.1f} | {row['macs'] / 1e9:.2f} | {row['latency']['median_ms']:.1f} | {ratio} |"
        )
    teacher, student = (step["seconds"] for step in record["steps"])
    hardware = record["hardware"]
    low, high = (100 * bound for bound in rows[1]["quality"]["difference_interval"])
    lines += [
        "",
        f"Fine-tuning the teacher took {teacher:.0f} s and distilling the student {student:.0f} s, on "
        f"{hardware['cores']} cores ({hardware['processor']}). The 95 % interval of the student's accuracy minus its "
        f"teacher's, on the same sentences, is {low:+.1f} to {high:+.1f} points.",
    ]
    return "\n".join(lines)


def distillation():
    """What a training step costs."""
    result = json.loads((RESULTS / "distillation.json").read_text())
    seconds = result["median_seconds"]
    lines = ["| step | ms | against plain step + teacher |", "|---|---|---|"]
    lines += [f"| plain `Trainer` on the student | {seconds['plain'] * 1e3:.0f} | |"]
    lines += [f"| the teacher's forward pass | {seconds['teacher'] * 1e3:.0f} | |"]
    for name, value in result["ratio_to_plain_plus_teacher"].items():
        low, high = value["quartiles"]
        lines.append(
            f"| `CompressionTrainer`, {name} | {seconds[name] * 1e3:.0f} "
            f"| {value['median']:.3f} × (quartiles {low:.3f} to {high:.3f}) |"
        )
    padding = result["padding_share"]
    lines += [
        "",
        f"Padding is {padding['random']:.1%} of the tokens in batches drawn at random, {padding['grouped']:.1%} in "
        "batches of sentences of about the same length (`length_grouping`, which the command line turns on).",
    ]
    return "\n".join(lines)


TABLES = {"quickstart": quickstart, "distillation": distillation}


def render(text):
    """Put each table between its two marks."""
    for name, table in TABLES.items():
        text = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- end -->)",
            lambda found, table=table: f"{found[1]}\n{table()}\n\n{found[2]}",
            text,
            flags=re.S,
        )
    return text


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(render(readme.read_text(encoding="utf-8")), encoding="utf-8")
