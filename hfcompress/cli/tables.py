"""The tables that verbs share: results side by side, and plans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hfcompress.cli.output import table


def results_table(rows: Sequence[dict[str, Any]]) -> Any:
    """Show measured models, one a column, so that a table of two or three fits a terminal of 80 characters."""
    main = (rows[0].get("quality") or {}).get("main", "quality")
    names = [
        f"{main} % (95 %)",
        "change (95 %)",
        "kept",
        "parameters",
        "MB",
        "GMACs",
        "ms",
        "ms, 95th percentile",
        "time ratio",
    ]
    cells = zip(names, *(_result_cells(row, rows[0]) for row in rows), strict=True)
    return table(["", *(row["name"] for row in rows)], [line for line in cells if any(line[1:])])


def _result_cells(row: dict[str, Any], first: dict[str, Any]) -> list[str]:
    """Return a model's figures; those that compare it with the first are empty for the first itself."""
    time, other = row.get("latency"), row is not first
    return [
        *(_quality_cells(row["quality"], first["quality"], other) if row.get("quality") else ("", "", "")),
        count(row["parameters"]) if row["parameters"] else "",
        f"{row['bytes'] / 1e6:.1f}",
        f"{row['macs'] / 1e9:.2f}" if row["macs"] else "",
        f"{time['median_ms']:.1f}" if time else "",
        f"{time['p95_ms']:.1f}" if time else "",
        f"{time['ratio']:.2f}" if time and other else "",
    ]


def _quality_cells(quality: dict[str, Any], first: dict[str, Any], other: bool) -> tuple[str, str, str]:
    value, base = (found["metrics"][quality["main"]] for found in (quality, first))
    low, high = (100 * bound for bound in quality["interval"])
    fewest, most = (100 * bound for bound in quality["difference_interval"])
    return (
        f"{100 * value:.1f} ({low:.1f}–{high:.1f})",
        f"{100 * (value - base):+.1f} ({fewest:+.1f} to {most:+.1f})" if other else "",
        f"{100 * value / base:.1f} %" if other and base else "",
    )


def count(number: int) -> str:
    """Return a number of parameters in millions, or in thousands where there is less than one."""
    return f"{number / 1e6:.1f} M" if number >= 1e6 else f"{number / 1e3:.0f} k"


LATENCY_NOTE = (
    "ms: median of one text of 128 tokens (or the most that the model takes), or one image, on one thread;\n"
    "the models take turns in one run, each in its own runtime (PyTorch, or ONNX Runtime for ONNX files)."
)


AT_MOST_NOTE = (
    "at most: what a method leaves is known once it has looked at the model and the data; zeros alone remove nothing."
)


def plan_table(plans: Sequence[Any]) -> Any:
    """Show what steps would make and cost."""
    columns = ["step", "parameters", "GMACs", "training steps", "memory MB, activations apart", "disk MB, at most"]
    rows = [
        [
            plan.name,
            f"{'at most ' if plan.at_most else ''}{count(plan.parameters)}",
            f"{'at most ' if plan.at_most else ''}{plan.macs / 1e9:.2f}",
            f"{plan.optimizer_steps}",
            f"{plan.memory_bytes / 1e6:,.0f}",
            f"{plan.disk_bytes / 1e6:,.0f}",
        ]
        for plan in plans
    ]
    return table(columns, rows)


EXPECTED_NOTE = (
    "loss: how far the answers are expected to move (Kullback-Leibler divergence, nats an example), or what the\n"
    "layers lose of what the method counts; ms: these layers on one text of 128 tokens or one image, one thread, torch."
)


def expected_table(plans: Sequence[Any]) -> Any:
    """Show what steps that were asked for ranks expect; those that cannot be asked yet say so."""
    rows = []
    for plan in plans:
        found = (plan.expected or {}).get("low_rank")
        if found:
            rows.append([plan.name, *_expected_cells(found)])
        elif plan.waits:
            rows.append([plan.name, "known after the step before", "", "", ""])
    return table(["step", "expected loss", "layers made thin", "their parameters", "their ms"], rows)


def _expected_cells(found: dict[str, Any]) -> tuple[str, str, str, str]:
    layers = found["layers"]
    thin = sum(layer["rank"] is not None for layer in layers)
    if found["is_divergence"]:
        loss = f"{found['predicted_loss']:.3g} nats"
    else:
        loss = f"{100 * found['predicted_loss'] / (found['loss_of_all'] or 1):.3g} % of the {found['loss']}"
    before, after = found["dense_parameters"], found["parameters"]
    times = (found["milliseconds"], found["dense_milliseconds"]) if "milliseconds" in found else None
    return (
        loss,
        f"{thin} of {len(layers)}",
        f"{count(after)} of {count(before)}",
        f"{times[0]:.2f} of {times[1]:.2f}" if times else "",
    )
