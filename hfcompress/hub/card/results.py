"""Before and after: what was measured, in a table and in as many words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hfcompress.hub.card.inputs import CardInputs, Row, bounds, entries, mapping, number
from hfcompress.hub.card.text import listing, markdown, megabytes, parameters, percent, plain, points, table, times
from hfcompress.measure.report.summary import NOTICEABLE, has_zeros

_NOT_SHARES = ("perplexity", "loss", "mse", "rmse", "mae", "bleu", "sacrebleu")
"""Metrics that are no shares of something, and so not shown in percent."""


def summary(inputs: CardInputs) -> list[str]:
    """Say what each shipped model gained and lost against the first, one sentence each."""
    rows = inputs.rows
    return [_summary(row, rows[0], inputs.main_metric) for row in inputs.shipped if row is not rows[0]]


def _summary(row: Row, first: Row, metric: str) -> str:
    said = [text for text in (_size(row, first), _time(row), _quality(row, first, metric)) if text]
    return f"**{row.label}**, against {first.label}: {'; '.join(said) or 'nothing was measured'}."


def _size(row: Row, first: Row) -> str:
    size, base = row.number("bytes"), first.number("bytes")
    return (
        f"{megabytes(size)} MB instead of {megabytes(base)} MB ({times(size / base)} times the size)"
        if size and base
        else ""
    )


def _time(row: Row) -> str:
    time = mapping(row.values.get("latency"))
    ratio = number(time.get("ratio"))
    return f"{times(ratio)} times the latency" if ratio else ""


def _quality(row: Row, first: Row, metric: str) -> str:
    if row.main is None or first.main is None:
        return ""
    name = markdown(metric)
    text = f"{name} {percent(row.main)} % instead of {percent(first.main)} %"
    interval = bounds(row.quality.get("difference_interval"))
    return f"{text} ({difference(row.main - first.main, interval)})"


def difference(change: float, interval: tuple[float, float] | None) -> str:
    """Say a change in percentage points, and whether its interval leaves room for none."""
    text = f"{points(change)} points"
    if interval is None:
        return text
    low, high = interval
    zero = "which includes zero" if low <= 0 <= high else "which excludes zero"
    return f"{text}, 95 % interval {points(low)} to {points(high)}, {zero}"


def results_table(inputs: CardInputs) -> str:
    """Return the table of all measured models, one a column; empty when none were measured."""
    rows = inputs.rows
    if not rows:
        return ""
    metric = inputs.main_metric
    zeros = any(has_zeros(row.values) for row in rows)
    more = sorted({name for row in rows for name in mapping(row.quality.get("metrics")) if name != metric})
    lines: list[tuple[str, Callable[[Row], str]]] = [
        ("file", lambda row: markdown(row.values.get("file") or "")),
        (f"{markdown(metric)}, % (95 % interval)", _main_cell),
        ("change, points (95 % interval)", lambda row: "" if row is rows[0] else _change_cell(row, rows[0])),
        *((_metric_name(name), lambda row, name=name: _metric_cell(row, name)) for name in more),
        ("size on disk, MB", lambda row: _figure(row, "bytes", megabytes)),
        ("parameters", lambda row: _figure(row, "parameters", parameters)),
        ("zeros, % of the parameters", lambda row: _figure(row, "zeros", percent) if zeros else ""),
        ("GMACs", lambda row: _figure(row, "macs", lambda macs: f"{macs / 1e9:.2f}")),
        ("latency, ms: median", lambda row: _time_cell(row, "median_ms")),
        ("latency, ms: 95th percentile", lambda row: _time_cell(row, "p95_ms")),
        ("latency ratio (quartiles)", lambda row: "" if row is rows[0] else _ratio_cell(row.values.get("latency"))),
        ("peak memory, MB", lambda row: _figure(row, "peak_memory_bytes", megabytes)),
    ]
    cells = [[name, *(cell(row) for row in rows)] for name, cell in lines]
    return table(["", *(row.label for row in rows)], [line for line in cells if any(line[1:])])


def _metric_name(name: str) -> str:
    return f"{markdown(name)}{'' if name in _NOT_SHARES else ', %'}"


def _metric_cell(row: Row, name: str) -> str:
    value = number(mapping(row.quality.get("metrics")).get(name))
    if value is None:
        return ""
    return f"{value:.4g}" if name in _NOT_SHARES else percent(value)


def _main_cell(row: Row) -> str:
    interval = bounds(row.quality.get("interval"))
    spread = f" ({percent(interval[0])} to {percent(interval[1])})" if interval else ""
    return "" if row.main is None else percent(row.main) + spread


def _change_cell(row: Row, first: Row) -> str:
    if row.main is None or first.main is None:
        return ""
    interval = bounds(row.quality.get("difference_interval"))
    spread = f" ({points(interval[0])} to {points(interval[1])})" if interval else ""
    return points(row.main - first.main) + spread


def _figure(row: Row, name: str, show: Callable[[float], str]) -> str:
    value = row.number(name)
    return "" if value is None else show(value)


def _time_cell(row: Row, name: str) -> str:
    value = number(mapping(row.values.get("latency")).get(name))
    return "" if value is None else f"{value:.1f}"


def _ratio_cell(time: Any) -> str:
    ratio, interval = number(mapping(time).get("ratio")), bounds(mapping(time).get("ratio_interval"))
    spread = f" ({times(interval[0])} to {times(interval[1])})" if interval else ""
    return "" if ratio is None else times(ratio) + spread


def latencies_table(inputs: CardInputs) -> str:
    """Return median latencies at every setting that was timed; empty when only one was."""
    rows = inputs.rows
    settings = list(dict.fromkeys(_setting(one) for row in rows for one in entries(row.values.get("latencies"))))
    if len(settings) < 2:
        return ""
    columns = ["threads, batch, length", *(f"{row.label}, ms" for row in rows)]
    cells = [
        [", ".join(map(markdown, setting)), *(_setting_cell(row, setting, row is rows[0]) for row in rows)]
        for setting in settings
    ]
    return table(columns, cells)


def _setting(time: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(time.get(name, "?")) for name in ("threads", "batch_size", "length"))


def _setting_cell(row: Row, setting: tuple[str, ...], is_first: bool) -> str:
    for time in entries(row.values.get("latencies")):
        median, ratio = number(time.get("median_ms")), number(time.get("ratio"))
        if _setting(time) == setting and median is not None:
            return f"{median:.1f}" + ("" if is_first or ratio is None else f" ({times(ratio)})")
    return ""


def how_measured(inputs: CardInputs) -> str:
    """Say on which rows, machine and settings the figures were measured."""
    measured, record = inputs.measurements, inputs.record
    rows = measured.get("rows") or inputs.data.get("validation_rows")
    quality = f"Quality: {number(rows):,.0f} rows held out of {data_name(inputs)}." if number(rows) else ""
    settings = mapping(measured.get("settings"))
    cut = settings.get("max_length")
    cut_text = f" Texts were cut to {markdown(cut)} tokens." if cut else ""
    lengths = {row.values.get("length") for row in inputs.rows} - {None}
    length = f", {markdown(lengths.pop())} tokens" if len(lengths) == 1 and inputs.task.processor == "tokenizer" else ""
    rounds = f", {markdown(settings['rounds'])} rounds" if settings.get("rounds") else ""
    latency = (
        f" Latency: batch 1{length}, one thread{rounds}, the models taking turns in one process; "
        "the ratio is taken call by call."
    )
    latency = latency if any(row.values.get("latency") for row in inputs.rows) else ""
    machine = machine_name(mapping(measured.get("hardware") or record.get("hardware")))
    where = f" Measured on {machine}." if machine else ""
    return f"{quality}{cut_text}{latency}{where} Figures are rounded to the digits shown.".strip()


def data_name(inputs: CardInputs) -> str:
    """Return what the data set is called, as Markdown."""
    name = inputs.data.get("dataset") or inputs.measurements.get("dataset")
    return f"`{plain(name).replace('`', '')}`" if name else "the data"


def machine_name(hardware: Mapping[str, Any]) -> str:
    """Return processor, cores, accelerator and system in one phrase."""
    cores = hardware.get("cores")
    parts = [
        hardware.get("processor"),
        f"{cores} {'core' if cores == 1 else 'cores'}" if cores else None,
        hardware.get("accelerator"),
        hardware.get("system"),
    ]
    return ", ".join(markdown(part) for part in parts if part)


def grown(inputs: CardInputs) -> list[str]:
    """Say in as many words what got slower or larger; what was not measured is said, too."""
    rows = inputs.rows
    if len(rows) < 2:
        return ["Nothing was measured side by side, so whether anything got slower or larger is not known."]
    first = rows[0]
    found = [said for row in inputs.shipped if row is not first for said in _grown(row, first)]
    if not found:
        found = [f"Of what was measured, nothing got slower or larger than {first.label}."]
    names = {"bytes": "size", "latency": "latency", "peak_memory_bytes": "peak memory"}
    missing = [
        said for name, said in names.items() if not all(row.values.get(name) for row in [first, *inputs.shipped])
    ]
    if missing:
        found.append(f"Not measured for every model: {listing(missing)}.")
    return found


def _grown(row: Row, first: Row) -> list[str]:
    found = []
    for name, what in (("bytes", "larger on disk"), ("peak_memory_bytes", "larger in memory at its peak")):
        ours, theirs = row.number(name), first.number(name)
        if ours and theirs and ours > NOTICEABLE * theirs:
            found.append(f"{row.label} is {what}: {megabytes(ours)} MB against {megabytes(theirs)} MB.")
    headline = mapping(row.values.get("latency"))
    for time in entries(row.values.get("latencies")) or [headline]:
        ratio, interval = number(time.get("ratio")), bounds(time.get("ratio_interval"))
        if ratio is None or ratio <= NOTICEABLE:
            continue
        sure = "" if interval is None or interval[0] > 1 else ", though the quartiles of the ratio include 1"
        threads, batch, length = _setting(time)
        setting = markdown(f"batch {batch}, length {length}, threads {threads}")
        at = f" at {setting}" if "threads" in time else ""
        found.append(f"{row.label} is slower{at}: {times(ratio)} times the latency of {first.label}{sure}.")
    return found
