"""The tables that verbs share: results side by side, and plans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hfcompress.cli.output import table


def results_table(rows: Sequence[dict[str, Any]]) -> Any:
    """Show measured models, the first being what the others are compared with."""
    timed = "latency" in rows[0]
    main = rows[0]["quality"]["main"]
    columns = ["model", f"{main} % (95 %)", "change (95 %)", "kept", "parameters", "MB", "GMACs"]
    columns += ["ms", "p95", "time ratio"] if timed else []
    return table(columns, [_result_row(row, rows[0], timed) for row in rows])


def _result_row(row: dict[str, Any], first: dict[str, Any], timed: bool) -> list[str]:
    quality = row["quality"]
    value, base = (r["quality"]["metrics"][quality["main"]] for r in (row, first))
    low, high = (100 * bound for bound in quality["interval"])
    change = [f"{100 * (value - base):+.1f}", *(f"{100 * bound:+.1f}" for bound in quality["difference_interval"])]
    is_first = row is first
    cells = [
        row["name"],
        f"{100 * value:.1f} ({low:.1f}–{high:.1f})",
        "" if is_first else f"{change[0]} ({change[1]} to {change[2]})",
        "" if is_first or not base else f"{100 * value / base:.1f} %",
        f"{row['parameters'] / 1e6:.1f} M",
        f"{row['bytes'] / 1e6:.1f}",
        f"{row['macs'] / 1e9:.2f}",
    ]
    if timed:
        time = row["latency"]
        cells += [f"{time['median_ms']:.1f}", f"{time['p95_ms']:.1f}", "" if is_first else f"{time['ratio']:.2f}"]
    return cells


LATENCY_NOTE = "ms: median of one text of 128 tokens in PyTorch on one thread; the models take turns in one run."


def plan_table(plans: Sequence[Any]) -> Any:
    """Show what steps would make and cost."""
    columns = ["step", "parameters", "GMACs", "training steps", "memory MB, activations apart", "disk MB, at most"]
    rows = [
        [
            plan.name,
            f"{plan.parameters / 1e6:.1f} M",
            f"{plan.macs / 1e9:.2f}",
            f"{plan.optimizer_steps}",
            f"{plan.memory_bytes / 1e6:,.0f}",
            f"{plan.disk_bytes / 1e6:,.0f}",
        ]
        for plan in plans
    ]
    return table(columns, rows)
