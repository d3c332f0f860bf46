"""How long calls take: the spread of each model's times, a panel for each batch size, length and thread count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hfcompress.measure.report import drawing, text
from hfcompress.measure.report.details import settings_of, timing
from hfcompress.measure.report.figures import NAME_LENGTH, finish_rows, label_row
from hfcompress.measure.report.text import number, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Panel = tuple[str, list[tuple[int, Mapping[str, Any], Mapping[str, Any]]]]


def panels(measurements: Mapping[str, Any]) -> list[Panel]:
    """Return for each setting its name and, for each model timed there, its place, the model and the timing.

    Where only the headline's timing is known, that is the one panel.
    """
    models, task = measurements["models"], measurements["task"]
    found = []
    for key in settings_of(models):
        timed = [(place, model, timing(model, key)) for place, model in enumerate(models)]
        rows = [(place, model, one) for place, model, one in timed if one and number(one, "median_ms") is not None]
        if rows:
            found.append((text.setting(rows[0][2], task), rows))
    if not found:
        rows = [(p, m, m["latency"]) for p, m in enumerate(models) if number(m, "latency", "median_ms") is not None]
        found = [(text.setting({"length": 128, "threads": 1}, task), rows)] if rows else []
    return found


def panel_height(panel: Panel) -> float:
    """Return a panel's height in inches."""
    return 0.85 + 0.5 * len(panel[1])


def draw_panel(axes: Axes, panel: Panel) -> None:
    """Draw a box for each model: quartiles, median, 5th and 95th percentile, and the calls beyond."""
    title, rows = panel
    axes.set_title(title, loc="left", fontsize=10.5, color=drawing.INK, pad=8)
    for row, (place, model, timed) in enumerate(rows):
        _draw_times(axes, row, timed, drawing.colour(place))
        ratio = number(timed, "ratio")
        shown = f"{text.milliseconds(number(timed, 'median_ms') or 0)} ms"
        if ratio and place:
            shown += f" · {text.times(ratio)}"
        label_row(axes, row, shorten(model["name"], NAME_LENGTH), shown)
    finish_rows(axes, len(rows), "ms a call")


def _draw_times(axes: Axes, row: int, timed: Mapping[str, Any], colour: str) -> None:
    import numpy as np

    times = [value for value in timed.get("times_ms") or () if number({"": value}, "") is not None]
    median = number(timed, "median_ms") or 0.0
    axes.barh(row, median, height=0.3, color=colour, alpha=0.2, linewidth=0, zorder=1)
    if not times:  # only the median and the 95th percentile are known
        axes.plot([median, number(timed, "p95_ms") or median], [row, row], color=colour, linewidth=1.6)
        axes.plot(median, row, marker="o", markersize=7, color=colour)
        return
    low, first, middle, third, high = np.percentile(times, [5, 25, 50, 75, 95])
    axes.plot([low, high], [row, row], color=colour, linewidth=1.4, zorder=2)
    axes.barh(row, third - first, left=first, height=0.3, color=colour, zorder=3)
    axes.plot([middle, middle], [row - 0.25, row + 0.25], color=drawing.INK, linewidth=1.6, zorder=4)
    beyond = [value for value in times if not low <= value <= high]
    axes.plot(beyond, [row] * len(beyond), linestyle="none", marker="o", markersize=2.6, color=colour, alpha=0.75)


def rounds_of(measured: Sequence[Panel]) -> int:
    """Return how often each call was timed; 0 where that is not known."""
    return max((len(timed.get("times_ms") or ()) for _, rows in measured for _, _, timed in rows), default=0)
