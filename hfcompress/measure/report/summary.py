"""What came of it, in a table and in words: every model against the first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hfcompress.measure.report import text
from hfcompress.measure.report.text import number, pair
from hfcompress.measure.zeros import FEW_ZEROS, NO_GAIN

Model = Mapping[str, Any]
NOTICEABLE = 1.005  # less than half a percent more is not called larger


@dataclass(frozen=True)
class Cell:
    """A figure of one model.

    Args:
        text: The figure.
        note: Its interval, or how it compares with the first model's.
        worse: `larger` or `slower` where it is.
    """

    text: str = ""
    note: str = ""
    worse: str = ""


@dataclass(frozen=True)
class Row:
    """One figure of all models.

    Args:
        name: What it is.
        unit: In what, and with what kind of interval.
        cells: One a model.
    """

    name: str
    unit: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class _Amount:
    """Something of which less is better.

    Args:
        name: What it is.
        unit: In what.
        path: Where a model's entry holds it.
        show: How its value is written.
        worse: What more of it is called.
    """

    name: str
    unit: str
    path: tuple[str, ...]
    show: Callable[[float], str]
    worse: str = "larger"


_AMOUNTS = (
    _Amount("parameters", "", ("parameters",), text.count),
    _Amount("size", "MB on disk", ("bytes",), text.megabytes),
    _Amount("work", "GMACs", ("macs",), lambda value: f"{value / 1e9:.2f}", "more"),
    _Amount("time", "ms, median", ("latency", "median_ms"), text.milliseconds, "slower"),
    _Amount("time, slow calls", "ms, 95th percentile", ("latency", "p95_ms"), text.milliseconds, "slower"),
    _Amount("peak memory", "MB", ("peak_memory_bytes",), text.megabytes),
)


def main_metric(measurements: Mapping[str, Any]) -> str:
    """Return the metric that the page speaks of; empty where no quality was measured."""
    for model in measurements["models"]:
        if model.get("quality"):
            return str(model["quality"]["main"])
    return ""


def featured(models: Sequence[Model]) -> int:
    """Return the place of the model that the heading speaks of: the smallest, of equals the last."""
    sizes = [number(model, "bytes") for model in models]
    known = [(size, -place) for place, size in enumerate(sizes) if size is not None and place > 0]
    return -min(known)[1] if known else len(models) - 1


def table(measurements: Mapping[str, Any]) -> list[Row]:
    """Return the before/after table; what no model has is left out."""
    models = measurements["models"]
    rows = _quality_rows(models, main_metric(measurements))
    for amount in _AMOUNTS:
        rows.append(Row(amount.name, amount.unit, [_amount_cell(model, models[0], amount) for model in models]))
        if amount.name == "parameters" and any(map(has_zeros, models)):
            rows.append(Row("zeros", "% of the parameters", [Cell(_zeros(model)) for model in models]))
        if amount.path[-1] == "p95_ms" and len(models) > 1:
            rows.append(Row("time ratio", "call by call, quartiles", [Cell(), *map(_ratio_cell, models[1:])]))
    return [row for row in rows if any(cell.text for cell in row.cells)]


def _quality_rows(models: Sequence[Model], main: str) -> list[Row]:
    if not main:
        return []
    percent = "%, " if text.is_share(main) else ""
    points = "points, " if text.is_share(main) else ""
    rows = [Row(main, f"{percent}95 % interval", [_quality_cell(model, main) for model in models])]
    if len(models) > 1:
        changes = [Cell(), *(_change_cell(model, models[0], main) for model in models[1:])]
        rows += [Row(f"change in {main}", f"{points}95 % interval", changes)]
        rows += [Row("kept", f"% of {main}", [Cell(), *(Cell(_kept(m, models[0], main)) for m in models[1:])])]
    others = dict.fromkeys(key for model in models for key in (model.get("quality") or {}).get("metrics", {}))
    for name in others:
        if name != main:
            values = [number(model, "quality", "metrics", name) for model in models]
            cells = [Cell(text.of_metric(name, value)) if value is not None else Cell() for value in values]
            rows.append(Row(name, "%" if text.is_share(name) else "", cells))
    return rows


def _quality_cell(model: Model, main: str) -> Cell:
    if not model.get("quality"):
        return Cell()
    interval = pair(model, "quality", "interval")
    note = f"{text.of_metric(main, interval[0])} to {text.of_metric(main, interval[1])}" if interval else ""
    return Cell(text.of_metric(main, number(model, "quality", "metrics", main)), note)


def _change_cell(model: Model, first: Model, main: str) -> Cell:
    change, interval = quality_change(model, first, main), pair(model, "quality", "difference_interval")
    if change is None:
        return Cell()
    note = f"{text.change_of(main, interval[0])} to {text.change_of(main, interval[1])}" if interval else ""
    return Cell(text.change_of(main, change), note, "lower" if interval and interval[1] < 0 else "")


def quality_change(model: Model, first: Model, main: str) -> float | None:
    """Return how much higher a model's main metric is than the first model's."""
    value, base = (number(m, "quality", "metrics", main) for m in (model, first))
    return None if value is None or base is None else value - base


def _kept(model: Model, first: Model, main: str) -> str:
    value, base = (number(m, "quality", "metrics", main) for m in (model, first))
    return f"{100 * value / base:.1f}" if value is not None and base and base > 0 else ""


def _amount_cell(model: Model, first: Model, amount: _Amount) -> Cell:
    value, base = number(model, *amount.path), number(first, *amount.path)
    if value is None:
        return Cell()
    if model is first or not base:
        return Cell(amount.show(value))
    return Cell(amount.show(value), text.times(value / base), amount.worse if value > NOTICEABLE * base else "")


def has_zeros(model: Model) -> bool:
    """Say whether so many of a model's parameters are zero that it is worth a word."""
    return (number(model, "zeros") or 0) > FEW_ZEROS


def _zeros(model: Model) -> str:
    share = number(model, "zeros")
    return "" if share is None else f"{100 * share:.1f}"


def _ratio_cell(model: Model) -> Cell:
    ratio, interval = number(model, "latency", "ratio"), pair(model, "latency", "ratio_interval")
    if ratio is None:
        return Cell()
    return Cell(f"{ratio:.2f}", f"{interval[0]:.2f} to {interval[1]:.2f}" if interval else "")


def in_words(measurements: Mapping[str, Any]) -> list[str]:
    """Say for each model after the first what became of its quality, and what got slower or larger; and of zeros."""
    models, main = measurements["models"], main_metric(measurements)
    said = [sentence for model in models[1:] for sentence in _quality_words(model, models[0], main)]
    worse = [sentence for model in models[1:] for sentence in _worse_words(model, models[0], measurements["task"])]
    if len(models) > 1 and not worse:
        worse = [f"Nothing that was measured is larger or slower than {text.clean(models[0]['name'])}."]
    zeros = [
        f"{text.clean(model['name'], 60)}: {_zeros(model)} % of its parameters are zero; {NO_GAIN}."
        for model in models
        if has_zeros(model)
    ]
    return said + worse + zeros


def _quality_words(model: Model, first: Model, main: str) -> list[str]:
    change, interval = quality_change(model, first, main), pair(model, "quality", "difference_interval")
    if change is None:
        return []
    rows = f" on {number(model, 'quality', 'rows') or 0:,.0f} rows"
    name, unit = text.clean(model["name"], 60), " points" if text.is_share(main) else ""
    if interval is None:
        return [f"{name}: {main} {text.change_of(main, change)}{unit}{rows}."]
    bounds = f"{text.change_of(main, interval[0])} to {text.change_of(main, interval[1])}"
    if interval == (0.0, 0.0):
        return [f"{name}: {main} is the same{rows}."]
    if interval[1] < 0 or interval[0] > 0:
        return [f"{name}: {main} is {'lower' if change < 0 else 'higher'} by {bounds}{unit}{rows} (95 % interval)."]
    shown = f"{main} {text.change_of(main, change)}{unit}{rows}"
    return [f"{name}: {shown}; the 95 % interval, {bounds}, includes zero."]


def _worse_words(model: Model, first: Model, task: str) -> list[str]:
    name, than = text.clean(model["name"], 60), text.clean(first["name"], 60)
    said = []
    for amount in _AMOUNTS:
        cell = _amount_cell(model, first, amount)
        if cell.worse:
            base = amount.show(number(first, *amount.path) or 0)
            unit = f" {amount.unit.partition(',')[0]}" if amount.unit else ""
            said.append(f"{name}: {amount.name} is {cell.worse}: {cell.text}{unit} against {base}{unit} ({cell.note}).")
    for found in model.get("latencies") or ():
        interval = pair(found, "ratio_interval")
        if interval and interval[0] > 1:
            ratio = text.times(number(found, "ratio") or interval[0])
            said.append(f"{name} is slower than {than} at {text.setting(found, task)}: {ratio} of its time.")
    return said


def headline(measurements: Mapping[str, Any]) -> dict[str, Any]:
    """Return the page's title, its first sentence and the figures below it."""
    models, main = measurements["models"], main_metric(measurements)
    first, chosen = models[0], models[featured(models)]
    names = [text.clean(model["name"], 60) for model in (chosen, first)]
    rows = {row.name: row.cells for row in table(measurements)}
    place = featured(models)
    kept = rows["kept"][place].text if "kept" in rows else ""
    costs = []
    for path, what in ((("latency", "median_ms"), "time"), (("bytes",), "bytes")):
        value, base = number(chosen, *path), number(first, *path)
        if len(models) > 1 and value is not None and base:
            costs.append(f"{100 * value / base:.0f} % of the {what}")
    sentence = " ".join(filter(None, [f"keeps {kept} % of the {main}" if kept else "", "in" if kept else "takes"]))
    sentence = f"It {sentence} {' and '.join(costs)}." if costs else f"It keeps {kept} % of the {main}." if kept else ""
    title = f"{names[0]} against {names[1]}" if len(models) > 1 else names[0]
    return {"title": title, "sentence": sentence.replace(" %", "\u00a0%"), "figures": _figures(rows, place, main)}


def _figures(rows: Mapping[str, Sequence[Cell]], place: int, main: str) -> list[dict[str, str]]:
    """Return the three or four figures that a reader looks for first, each with what it was before."""
    units = {"size": "MB", "time": "ms", "peak memory": "MB", main: "%" if text.is_share(main) else ""}
    found = []
    for name in filter(None, (main, "size", "time", "peak memory")):
        cells = rows.get(name)
        if cells and cells[place].text:
            before = f"{cells[0].text} before" if place and cells[0].text else ""
            found.append({"name": name, "value": cells[place].text, "unit": units[name], "before": before})
    return found
