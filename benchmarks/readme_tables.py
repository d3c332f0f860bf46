"""Writes the tables of the README from the committed results: `python benchmarks/readme_tables.py`."""

import json
import re
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
MODELS = {"minilm": "MiniLM-L6", "mpnet": "MPNet-base"}


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
    export = record.get("export")
    exported = f" Writing the ONNX files and proving them equal took {export['seconds']:.0f} s." if export else ""
    low, high = (100 * bound for bound in rows[1]["quality"]["difference_interval"])
    lines += [
        "",
        f"Fine-tuning the teacher took {teacher:.0f} s and distilling the student {student:.0f} s, on "
        f"{hardware['cores']} cores ({hardware['processor']}). The 95 % interval of the student's accuracy minus its "
        f"teacher's, on the same sentences, is {low:+.1f} to {high:+.1f} points.{exported}",
    ]
    return "\n".join(lines)


def distillation():
    """What a training step costs, a table for each pair of teacher and student."""
    records = json.loads((RESULTS / "distillation.json").read_text())["pairs"].values()
    tables = [step_costs(record) for record in records]
    padding = next(iter(records))["padding_share"]
    tables.append(
        f"Padding is {padding['random']:.1%} of the tokens in batches drawn at random, {padding['grouped']:.1%} in "
        "batches of sentences of about the same length (`length_grouping`, which the command line turns on)."
    )
    return "\n\n".join(tables)


def step_costs(record):
    """One pair's steps; ratios round by round, as median and quartiles."""
    settings, caching = record["settings"], record.get("caching")
    bases = ("plain", "plain + teacher", "textbrewer")
    lines = [
        f"{record['pair']}, batch {settings['batch_size']}, threads: {settings['threads']}, "
        f"rounds: {settings['rounds']}:",
        "",
        "| step | ms | × plain | × (plain + teacher) | × TextBrewer |",
        "|---|---|---|---|---|",
    ]
    for row in record["rows"].values():
        ratios = " | ".join(ratio(row["ratio_to"].get(base)) for base in bases)
        lines.append(f"| {row['what']} | {row['seconds']['median'] * 1e3:.0f} | {ratios} |".replace("|  ", "| "))
    if caching:
        took = f"took {caching['seconds']:.0f} s, once."
        lines += ["", f"Caching the teacher's answers to {caching['rows']:,} sentences {took}"]
    return "\n".join(lines)


def pruning():
    """Accuracy before and after `fisher`, with distillation afterwards too, by share of the work; means over seeds."""
    cells = json.loads((RESULTS / "pruning.json").read_text())["cells"]
    groups = {}
    for name, cell in cells.items():
        model, method, macs, _ = name.split("/")
        if method.startswith("fisher"):
            groups.setdefault((model, method, -float(macs)), []).append(cell)
    lines = ["| model | method | fewer MACs | accuracy | difference | seeds |", "|---|---|---|---|---|---|"]
    for (model, method, _), found in sorted(groups.items()):
        before, after = (mean(cell[key] for cell in found) for key in ("dense_accuracy", "accuracy"))
        fewer = mean(cell["dense_macs"] / cell["macs"] for cell in found)
        each = [100 * (cell["accuracy"] - cell["dense_accuracy"]) for cell in found]
        lines.append(
            f"| {MODELS[model]} | `{method}` | {fewer:.2f} × | {100 * before:.1f} → {100 * after:.1f} % "
            f"| {_spread(each)} | {len(found)} |"
        )
    return "\n".join(lines)


def low_rank():
    """Points of accuracy that factorization costs without any training, budgets shared out over the layers."""
    cells = json.loads((RESULTS / "low_rank.json").read_text())["cells"]
    methods = ("svd", "fwsvd", "activation+fisher")
    groups = {}
    for name, cell in cells.items():
        model, method, ranks, share, _ = name.split("/")
        if ranks == "shared" and method in methods:
            found = groups.setdefault((model, -float(share)), {})
            found.setdefault(method, []).append(100 * (cell["accuracy"] - cell["dense_accuracy"]))
    lines = [
        "| model | parameters of the linear layers kept | `svd` | `fwsvd` | `activation` | seeds |",
        "|---|---|---|---|---|---|",
    ]
    for (model, share), found in sorted(groups.items()):
        each = " | ".join(_spread(found.get(method, [])) for method in methods)
        seeds = max(map(len, found.values()))
        lines.append(f"| {MODELS[model]} | {-share:.0%} | {each} | {seeds} |")
    return "\n".join(lines)


def fewer_bits():
    """Size, quality and speed of the files that each way to quantize makes, on one thread, beside other tools."""
    found = json.loads((RESULTS / "quantization.json").read_text())["latency"]
    head = "times smaller | points (95 %) | × ONNX float32's speed |"
    lines = ["| | " + " ".join(f"{MODELS[model]}: MB | {head}" for model in found), "|---" * (1 + 4 * len(found)) + "|"]
    for name in dict.fromkeys(name for rows in found.values() for name in rows):
        cells = " | ".join(_bits_cells(rows, name) for rows in found.values())
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def _bits_cells(rows, name):
    if name not in rows:
        return " | | | "
    row, dense, onnx = rows[name], rows["PyTorch, float32"], rows["ONNX, float32"]
    low, high = (100 * bound for bound in row["difference_interval"])
    points = 100 * (row["accuracy"] - dense["accuracy"])
    ms, ms_onnx = (one["latency"]["1 x 128"]["median_ms"] for one in (row, onnx))
    return (
        f"{row['bytes'] / 1e6:.1f} | {dense['bytes'] / row['bytes']:.2f} "
        f"| {points:+.1f} ({low:+.1f} to {high:+.1f}) | {ms_onnx / ms:.2f}"
    )


def packed():
    """Size and quality of packed checkpoints with shared weights."""
    record = json.loads((RESULTS / "deep_compression.json").read_text())
    lines = ["| MiniLM-L6 | `.hfz`, MB | times smaller | accuracy, points |", "|---|---|---|---|"]
    for name, cell in record["cells"].items():
        kind, _, label = name.partition("/")
        if kind != "codecs":
            title = label if kind == "shared" else f"recipe `deep-compression`, seed {label}"
            smaller = cell["folder_bytes"] / cell["packed_bytes"]
            points = 100 * (cell["accuracy"] - record["dense"])
            lines.append(f"| {title} | {cell['packed_bytes'] / 1e6:.2f} | {smaller:.1f} | {points:+.1f} |")
    return "\n".join(lines)


def _spread(each):
    """Return the mean of points and their range, as far as there are any."""
    spread = f" ({min(each):+.1f} to {max(each):+.1f})" if len(set(each)) > 1 else ""
    return f"{mean(each):+.1f}{spread}" if each else ""


def ratio(found):
    """Return a median and its quartiles, or nothing."""
    if found is None:
        return ""
    low, high = found["quartiles"]
    return f"{found['median']:.2f} ({low:.2f}–{high:.2f})"


TABLES = {
    "quickstart": quickstart,
    "pruning": pruning,
    "low rank": low_rank,
    "fewer bits": fewer_bits,
    "packed": packed,
    "distillation": distillation,
}


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
