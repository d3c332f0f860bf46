"""The measurements: quality, size, memory and latency of several models side by side, in one dictionary for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hfcompress.environment import hardware, versions
from hfcompress.measure.classes import score_classes
from hfcompress.measure.examples import differing_examples
from hfcompress.measure.latency import Effort
from hfcompress.measure.memory import is_pair, peak_memory
from hfcompress.measure.quality import More, judge, predict
from hfcompress.measure.runnable import Runnable, load_runnable, processor_of
from hfcompress.measure.sizes import describe
from hfcompress.measure.timing import all_settings, headline_of, time_models
from hfcompress.modeling.onnx_model import OnnxModel
from hfcompress.tasks import Task, label_names

if TYPE_CHECKING:
    from hfcompress.data import TaskData

LENGTH = 128
"""Tokens of the text that multiply-accumulates and memory are counted for."""


@dataclass(frozen=True)
class BenchSettings:
    """What is timed, and how long.

    Args:
        batch_sizes: Texts or images in a call.
        lengths: Tokens of a text, cut to what all models take; images have the models' size.
        threads: Threads of a call; 0 for all cores.
        effort: How often each setting is timed.
        memory: Whether to measure the peak memory too, in a process for each model.
    """

    batch_sizes: tuple[int, ...] = (1, 32)
    lengths: tuple[int, ...] = (32, LENGTH)
    threads: tuple[int, ...] = (1, 0)
    effort: Effort = Effort(rounds=40, seconds=10.0)
    memory: bool = True


STANDARD = BenchSettings()
HEADLINE = BenchSettings((1,), (LENGTH,), (1,), Effort(), memory=False)
"""One text of 128 tokens on one thread, nothing else."""
UNTIMED = BenchSettings((), (), (), memory=False)


def bench(
    models: Mapping[str, Path | str],
    task: Task,
    data: TaskData | None = None,
    seed: int = 0,
    known_answers: Mapping[str, np.ndarray] | None = None,
    settings: BenchSettings | None = None,
    progress: bool = False,
    more: More | None = None,
) -> dict[str, Any]:
    """Measure models side by side.

    Args:
        models: Folder, Hub id or ONNX file by name; the first is what the others are compared with.
        task: Gives metrics and classes.
        data: Its validation rows are what quality is measured on; without it there is no quality.
        seed: Of the bootstrap.
        known_answers: Validation answers of models that were evaluated before.
        settings: What is timed; `STANDARD` unless given.
        progress: Show progress bars on stderr.
        more: What else is scored.

    Returns:
        The measurements, for JSON: `models`, one entry each, `examples` on which they differ, on what and with what.

    Raises:
        ModelError: A model cannot be loaded.
        RequestError: What is asked for does not go with the task.
    """
    settings, more = settings or STANDARD, more or More()
    more.check(task)
    sources = {name: str(source) for name, source in models.items()}
    loaded = {name: load_runnable(source, task) for name, source in sources.items()}
    first = next(iter(loaded.values()))
    labels = list(data.label_names) if data else list(label_names(first.config)) if task.names_labels else []
    answers = _answers(sources, loaded, task, data, dict(known_answers or {}), more, progress) if data else {}
    timed = all_settings(loaded, task, settings.batch_sizes, settings.lengths, settings.threads)
    latencies = time_models(sources, loaded, task, timed, settings.effort, progress)
    rows = [
        {
            "name": name,
            **describe(sources[name], model, task, LENGTH),
            **_quality(name, answers, task, data, labels, seed, more),
            **_latency(latencies[name]),
            **(_memory(sources[name], model, task) if settings.memory else {}),
        }
        for name, model in loaded.items()
    ]
    return {
        "task": task.name,
        "main_metric": rows[0]["quality"]["main"] if data else None,
        "labels": labels,
        "rows": len(data.validation) if data else 0,
        "dataset": None,
        "settings": _settings(settings, seed, data),
        "hardware": hardware(),
        "versions": versions(),
        "models": rows,
        **_examples(answers, data, task, labels),
    }


def _answers(
    sources: Mapping[str, str],
    models: Mapping[str, Runnable],
    task: Task,
    data: TaskData,
    known: dict[str, np.ndarray],
    more: More,
    progress: bool,
) -> dict[str, np.ndarray]:
    """Return each model's answers to the validation rows, in the order of the models."""
    for name, model in models.items():
        if name not in known:
            processor, rows = processor_of(sources[name], task), data.validation
            known[name] = predict(
                model, processor, rows, task, data.max_length, progress=progress, generate=more.generate
            )
    return {name: known[name] for name in models}


def _quality(
    name: str,
    answers: Mapping[str, np.ndarray],
    task: Task,
    data: TaskData | None,
    labels: list[str],
    seed: int,
    more: More,
) -> dict[str, Any]:
    """Return what a model's answers are worth, over all and by class."""
    if data is None:
        return {"quality": None, "classes": None, "confusion": None}
    references, first = task.references(data.validation), next(iter(answers.values()))
    classes, confusion = score_classes(answers[name], references, task, labels)
    quality = judge(answers[name], first, references, task, seed, more.metrics)
    return {"quality": quality, "classes": classes, "confusion": confusion}


def _latency(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return all timings of a model, and the one that tables show."""
    if not found:
        return {}
    headline = headline_of(found)
    kept = ("median_ms", "p95_ms", "ratio", "ratio_interval")
    return {"latency": {name: headline[name] for name in kept}, "latencies": found}


def _memory(source: str, model: Runnable, task: Task) -> dict[str, Any]:
    """Return the most memory that a process takes which loads a model and answers one text."""
    inputs: dict[str, Any] = dict(task.example_inputs(model.config, 1, LENGTH))
    if isinstance(model, OnnxModel) and not is_pair(source):
        inputs = model.fill_in(inputs)
    found = peak_memory(source, {name: value.cpu().numpy() for name, value in inputs.items()}, task.name)
    return {"peak_memory_bytes": found and found["peak"], "bare_memory_bytes": found and found["bare"]}


def _settings(settings: BenchSettings, seed: int, data: TaskData | None) -> dict[str, Any]:
    effort = settings.effort
    return {
        "seed": seed,
        "max_length": data.max_length if data else None,
        "rounds": effort.rounds,
        "seconds": effort.seconds,
    }


def _examples(
    answers: Mapping[str, np.ndarray], data: TaskData | None, task: Task, labels: list[str]
) -> dict[str, Any]:
    found = differing_examples(answers, data.validation, task, labels) if data and len(answers) > 1 else None
    return {"examples": found and found[0], "examples_total": found and found[1]}
