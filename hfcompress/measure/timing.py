"""Timing models of both runtimes in every setting: the same inputs, in turns, on as many threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hfcompress.environment import available_cores
from hfcompress.measure.latency import Effort, model_call, summarize, time_calls
from hfcompress.measure.runnable import Runnable, load_runnable
from hfcompress.modeling.onnx_model import is_onnx
from hfcompress.tasks import Task


@dataclass(frozen=True)
class Setting:
    """What one call is.

    Args:
        threads: Threads of either runtime.
        batch_size: Texts or images.
        length: Tokens of a text, or pixels of an image's width.
    """

    threads: int
    batch_size: int
    length: int

    def __str__(self) -> str:
        """Name it, for progress bars."""
        return f"batch {self.batch_size}, length {self.length}, {self.threads} thread{'s' * (self.threads > 1)}"


def all_settings(
    models: Mapping[str, Runnable],
    task: Task,
    batch_sizes: Sequence[int],
    lengths: Sequence[int],
    threads: Sequence[int],
) -> list[Setting]:
    """Return the settings that differ.

    Args:
        models: What is timed: a length is cut to what all of them take, and images have their size.
        task: Knows the inputs.
        batch_sizes: Of a call.
        lengths: Of a text.
        threads: Of a call; 0 for all cores.
    """
    taken = [min(_taken(model, task, length) for model in models.values()) for length in lengths]
    return [
        Setting(*each)
        for each in dict.fromkeys(
            (count or available_cores(), batch_size, length)
            for count in threads
            for batch_size in batch_sizes
            for length in taken
        )
    ]


def _taken(model: Runnable, task: Task, length: int) -> int:
    """Return how long inputs become that are to have a length."""
    return int(task.example_inputs(model.config, 1, length)[model.main_input_name].shape[-1])


def time_models(
    sources: Mapping[str, str],
    models: Mapping[str, Runnable],
    task: Task,
    settings: Sequence[Setting],
    effort: Effort,
    progress: bool = False,
) -> dict[str, list[dict[str, Any]]]:
    """Time models against each other in every setting.

    ONNX Runtime gets a session for each number of threads. Its threads stop spinning when a call ends (`start_session`
    sees to that): idle ones that spin take the cores from the model whose turn is next, and made PyTorch's calls up to
    twice as long (MiniLM-L6, 128 tokens, two threads on two cores: 58 ms instead of 29). That they never spin would
    slow ONNX Runtime itself by about a seventh.

    Args:
        sources: Where the models came from, by name.
        models: The models, by name; the first is what the others are compared with.
        task: Knows the inputs.
        settings: What is timed.
        effort: How often.
        progress: Show progress bars on stderr.

    Returns:
        For each model one entry a setting: the setting, what `Latency` holds, `rounds` and `times_ms`.
    """
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in models}
    for threads in dict.fromkeys(setting.threads for setting in settings):
        ready = {name: _with_threads(model, sources[name], task, threads) for name, model in models.items()}
        for setting in (setting for setting in settings if setting.threads == threads):
            calls = {name: model_call(model, task, setting.batch_size, setting.length) for name, model in ready.items()}
            times = time_calls(calls, effort, threads, str(setting) if progress else "")
            for index, (name, latency) in enumerate(zip(models, summarize(times), strict=True)):
                entry = {**vars(setting), **latency.to_dict(), "rounds": len(times)}
                found[name].append({**entry, "times_ms": [round(float(time), 4) for time in times[:, index]]})
    return found


def _with_threads(model: Runnable, source: str, task: Task, threads: int) -> Runnable:
    return load_runnable(source, task, threads) if is_onnx(source) else model


def headline_of(timings: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the one timing that tables show: of the fewest threads and the smallest batch the longest text."""
    return min(timings, key=lambda one: (one["threads"], one["batch_size"], -one["length"]))
