"""What every finished folder gets: measurements of what ships, the record, the report, the model card."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hfcompress.data import TaskData
from hfcompress.errors import RequestError
from hfcompress.export.layout import DECODER, MODEL, with_suffix
from hfcompress.folders import RECORD
from hfcompress.hub.card.inputs import MEASUREMENTS
from hfcompress.measure.bench import BenchSettings, bench
from hfcompress.measure.latency import Effort
from hfcompress.modeling.onnx_model import ONNX_FOLDER
from hfcompress.pipeline import provenance
from hfcompress.tasks import Task

SETTINGS = BenchSettings(effort=Effort(rounds=40, seconds=4.0))
"""As `hfcompress bench` measures, but less long: the user waits for the folder."""

_CALLED = {"int8": "quantized", "int4": "q4", "int8 weights": "int8", "float16": "fp16", "mixed": "mixed"}
"""What tables call the files in fewer bits, and what stands behind their names."""


def finish(
    folder: Path,
    record: dict[str, Any],
    models: Mapping[str, Path | str],
    task: Task,
    data: TaskData | None,
    known_answers: Mapping[str, np.ndarray] | None = None,
    progress: bool = True,
    say: Callable[[str], None] = lambda text: None,
    name: str | None = None,
) -> dict[str, Any]:
    """Measure models, and write record, measurements, report and card into a folder that holds a checkpoint.

    Args:
        folder: Complete but for these files.
        record: For `compression.json`; gets `results`.
        models: Folder, Hub id or ONNX file by name; the first is what the others are compared with.
        task: Gives metrics and classes.
        data: Its validation rows are what quality is measured on; without data only size and time are.
        known_answers: Validation answers of models that were evaluated before.
        progress: Show progress bars on stderr.
        say: Told in one line what happens.
        name: What the model is called in its card; the folder's name unless given.

    Returns:
        The record.
    """
    from hfcompress.hub.card import write_card

    say("measuring quality, size and latency" if data else "measuring size and latency")
    measurements = bench(models, task, data, record.get("seed", 0), known_answers, SETTINGS, progress)
    measurements["dataset"] = record.get("data", {}).get("dataset")
    record["results"] = [_without_samples(row) for row in measurements["models"]]
    provenance.write_json(folder / RECORD, record)
    provenance.write_json(folder / MEASUREMENTS, measurements)
    _report(measurements, record, folder, say)
    write_card(folder, name=name, overwrite=True)  # a source's own card may lie there
    return record


def _report(measurements: dict[str, Any], record: dict[str, Any], folder: Path, say: Callable[[str], None]) -> None:
    from hfcompress.measure.report import write_report

    try:
        write_report(measurements, record, folder)
    except RequestError as error:  # matplotlib is optional
        say(f"note: no report.html: {error}")


def _without_samples(row: dict[str, Any]) -> dict[str, Any]:
    """Return a model's measurements without the time of every single call."""
    settings = [
        {name: value for name, value in setting.items() if name != "times_ms"} for setting in row.get("latencies") or []
    ]
    return {**row, "latencies": settings}


def onnx_models(folder: Path, name: str) -> dict[str, Path]:
    """Return the ONNX files of a folder that can be run, by what tables call them.

    Args:
        folder: A model folder.
        name: What its PyTorch model is called.
    """
    graph = DECODER if (folder / ONNX_FOLDER / DECODER).is_file() else MODEL
    files = {"ONNX": graph} | {what: with_suffix(graph, suffix) for what, suffix in _CALLED.items()}
    places = {f"{name} {what}": folder / ONNX_FOLDER / file for what, file in files.items()}
    return {called: place for called, place in places.items() if place.is_file()}
