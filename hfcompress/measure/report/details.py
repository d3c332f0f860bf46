"""The rows on which models differ, and how the models were made and measured, as the page shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hfcompress.measure.report import text
from hfcompress.measure.report.text import clean, number, pair

MOST_EXAMPLES = 200


def example_rows(measurements: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows that some model answers otherwise than the first, texts cut to what fits a table."""
    names = [model["name"] for model in measurements["models"]]
    rows = []
    for example in (measurements.get("examples") or [])[:MOST_EXAMPLES]:
        given = example.get("answers") or {}
        answers = [given.get(name) for name in names]
        truth = example.get("label")
        rows.append(
            {
                "input": clean(example.get("input"), 400),
                "truth": "" if truth is None else clean(truth, 120),
                "answers": [_answer(name in given, answer, truth) for name, answer in zip(names, answers, strict=True)],
                "differs": [i for i, name in enumerate(names) if name in given and answers[i] != answers[0]],
            }
        )
    return rows


def _answer(given: bool, answer: Any, truth: Any) -> dict[str, Any]:
    shown = f"{answer:.3g}" if isinstance(answer, float) else clean(answer, 120) if given else ""
    judged = given and isinstance(truth, (str, int)) and isinstance(answer, type(truth))
    return {"text": shown, "wrong": judged and answer != truth}


def component_rows(measurements: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Return MB by component: its name, and a figure for each model."""
    parts = [model.get("component_bytes") or {} for model in measurements["models"]]
    names = dict.fromkeys(name for sizes in parts for name in sizes)
    rows = [(clean(name, 40), [number(sizes, name) for sizes in parts]) for name in names]
    return [(name, ["" if size is None else text.megabytes(size) for size in sizes]) for name, sizes in rows]


def latency_rows(measurements: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return every timing: what was timed, by which model, and how it compares."""
    rows = []
    for key in settings_of(measurements["models"]):
        for model in measurements["models"]:
            found = timing(model, key)
            median, p95 = number(found, "median_ms"), number(found, "p95_ms")
            ratio, interval = number(found, "ratio"), pair(found, "ratio_interval")
            if found is None or median is None:
                continue
            rows.append(
                {
                    "setting": text.setting(found, measurements["task"]),
                    "name": clean(model["name"], 60),
                    "median": text.milliseconds(median),
                    "p95": "" if p95 is None else text.milliseconds(p95),
                    "ratio": "" if ratio is None else f"{ratio:.2f}",
                    "interval": f"{interval[0]:.2f} to {interval[1]:.2f}" if interval else "",
                }
            )
    return rows


def settings_of(models: Sequence[Mapping[str, Any]]) -> list[tuple[Any, Any, Any]]:
    """Return what was timed, as (threads, batch size, length), in the order of its first appearance."""
    found = (_key(timed) for model in models for timed in model.get("latencies") or ())
    return list(dict.fromkeys(found))


def timing(model: Mapping[str, Any], key: tuple[Any, Any, Any]) -> Mapping[str, Any] | None:
    """Return a model's timing in one setting, or None."""
    return next((timed for timed in model.get("latencies") or () if _key(timed) == key), None)


def _key(timed: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    return timed.get("threads"), timed.get("batch_size"), timed.get("length")


def steps(record: Mapping[str, Any] | None) -> list[dict[str, str]]:
    """Return what was done, step by step."""
    rows = []
    for step in (record or {}).get("steps") or ():
        rows.append(
            {
                "name": clean(step.get("name", ""), 60),
                "method": clean(step.get("method", ""), 60),
                "config": clean(_shown(step.get("config") or {}), 400),
                "time": text.duration(number(step, "seconds") or 0),
                "before": _quality(step.get("before")),
                "after": _quality(step.get("after")),
            }
        )
    return rows


def _shown(value: Any) -> str:
    """Return a setting: what holds others with these in brackets."""
    if isinstance(value, Mapping):
        return ", ".join(
            f"{k} ({_shown(v)})" if isinstance(v, Mapping) else f"{k}: {_shown(v)}" for k, v in value.items()
        )
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _quality(found: Mapping[str, Any] | None) -> str:
    if not found:
        return ""
    main = str(found.get("main", ""))
    value = number(found, "metrics", main)
    return "" if value is None else text.of_metric(main, value) + (" %" if text.is_share(main) else "")


def facts(measurements: Mapping[str, Any], record: Mapping[str, Any] | None) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return lists of names and values: what was measured and how, on which machine, with which packages."""
    measured = {
        "task": measurements.get("task"),
        "data": measurements.get("dataset"),
        "rows": measurements.get("rows"),
        **{key.replace("_", " "): value for key, value in (measurements.get("settings") or {}).items()},
    }
    files = {model["name"]: model.get("file") for model in measurements["models"]}
    groups = {
        "Measurement": measured,
        "Hardware": measurements.get("hardware") or {},
        "Versions": measurements.get("versions") or {},
        "Files": files,
        "Source": (record or {}).get("source") or {},
        "Export": _export((record or {}).get("export") or {}),
    }
    shown = {
        title: [
            (clean(name, 60), clean(_shown(value), 200))
            for name, value in values.items()
            if value not in (None, "", [])
        ]
        for title, values in groups.items()
    }
    return [(title, rows) for title, rows in shown.items() if rows]


_FLOAT = 32


def _quantizations(export: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what each method made, where an export quantized."""
    return export.get("quantizations") or [export.get("quantization") or {}]


def bits(record: Mapping[str, Any] | None) -> list[dict[str, str]]:
    """Return a row for each node of mixed precision: its bits, the bytes of its weight, and what they cost alone."""
    return [
        {
            "node": clean(row.get("node", ""), 120),
            "bits": "float" if row.get("bits") == _FLOAT else str(row.get("bits")),
            "kilobytes": f"{(number(row, 'bytes') or 0) / 1e3:,.0f}",
            "loss": f"{number(row, 'loss') or 0:.1e}" if row.get("bits") != _FLOAT else "",
        }
        for made in _quantizations((record or {}).get("export") or {})
        for row in made.get("bits") or ()
    ]


def _export(export: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `compression.json` says of the export, one value a line."""
    checked = export.get("validation") or {}
    difference, agreement = number(checked, "largest_difference"), number(checked, "label_agreement")
    quantized: dict[str, Any] = {}
    for made in _quantizations(export):
        name = "" if len(_quantizations(export)) == 1 else f" ({made.get('asked')})"
        nodes = ", ".join(f"{n} {kind}" for kind, n in (made.get("nodes") or {}).items())
        quantized |= {
            f"quantization{name}": made.get("method"),
            f"quantized nodes{name}": nodes,
            f"left in float{name}": ", ".join(map(str, made.get("kept_float") or ())),
        }
    return {
        "backend": export.get("backend"),
        "opset": export.get("opset"),
        "attention fused": {True: "yes", False: "no"}.get(export.get("fused")),  # type: ignore[arg-type]
        "largest difference from PyTorch": None if difference is None else f"{difference:.2g}",
        "same labels as PyTorch": None if agreement is None else f"{100 * agreement:.1f} %",
        **quantized,
        "time": text.duration(export["seconds"]) if number(export, "seconds") is not None else None,
    }
