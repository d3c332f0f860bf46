"""The numbers that go beside a model: quality, size and latency of several, compared with the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hfcompress.data import TaskData
from hfcompress.errors import Fault, RequestError
from hfcompress.measure.hub_metrics import compute
from hfcompress.measure.latency import measure_latency, model_call
from hfcompress.measure.quality import difference, predict, score
from hfcompress.measure.size import measure_size, weight_bytes
from hfcompress.modeling.load import load_model, load_processor
from hfcompress.sources import resolve
from hfcompress.tasks import Task


@dataclass(frozen=True)
class More:
    """What is scored beside the task's own metrics.

    Args:
        metrics: Metrics of the `evaluate` library.
        generate: Whether models that write texts write them, to be scored too.
    """

    metrics: Sequence[str] = ()
    generate: bool = False


def compare(
    models: Mapping[str, Path | str],
    task: Task,
    data: TaskData,
    seed: int = 0,
    latency: bool = True,
    known_answers: Mapping[str, np.ndarray] | None = None,
    progress: bool = False,
    more: More | None = None,
) -> list[dict[str, Any]]:
    """Measure models side by side.

    Args:
        models: Folder or Hub id by name; the first is what the others are compared with.
        task: Gives metrics and class.
        data: Its validation rows are what quality is measured on.
        seed: Of the bootstrap.
        latency: Whether to time them too, interleaved in one run: batch 1, 128 tokens, one thread.
        known_answers: Validation answers of models that were evaluated before.
        progress: Show progress bars on stderr.
        more: What else is scored.

    Returns:
        One row a model: `quality` (with the interval of its difference from the first), `parameters`, `components`,
        `macs`, `bytes`, and `latency`.
    """
    references = task.references(data.validation)
    more = more or More()
    if more.generate and not task.writes:
        raise RequestError(Fault("generate", f"goes with models that write texts, not with {task.name}."))
    loaded = {name: load_model(str(source), task) for name, source in models.items()}
    answers = dict(known_answers or {})
    for name in models.keys() - answers.keys():
        processor = load_processor(str(models[name]), task)
        answers[name] = predict(
            loaded[name], processor, data.validation, task, data.max_length, progress=progress, generate=more.generate
        )
    times = measure_latency({name: model_call(model, task) for name, model in loaded.items()}) if latency else {}
    first = next(iter(models))
    rows = []
    for name, model in loaded.items():
        size = measure_size(model.config, task)
        low, high = difference(answers[first], answers[name], references, task, seed)
        row = {
            "name": name,
            "quality": score(answers[name], references, task, seed).to_dict() | {"difference_interval": [low, high]},
            "bytes": _bytes(resolve(str(models[name])), size.parameters),
            **size.to_dict(),
        }
        own = list(row["quality"]["metrics"])
        for metric in more.metrics:
            row["quality"]["metrics"] |= compute(metric, *task.for_metric(answers[name], references), own=own)
        if latency:
            row["latency"] = times[name].to_dict()
        rows.append(row)
    return rows


def _bytes(source: str, parameters: int) -> int:
    """Return the weights' size on disk; for a model that lies in the Hub's cache, what they take in float32."""
    return weight_bytes(Path(source)) if Path(source).is_dir() else 4 * parameters
