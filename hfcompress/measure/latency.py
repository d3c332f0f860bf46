"""Latency: models interleaved in one process, so that a noisy machine is noisy for all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm.auto import tqdm

from hfcompress.tasks import Task

if TYPE_CHECKING:
    from hfcompress.measure.runnable import Runnable


@dataclass(frozen=True)
class Latency:
    """How long one call takes.

    Args:
        median_ms: Median in milliseconds.
        p95_ms: 95th percentile in milliseconds.
        ratio: Median of this model's time divided by the first model's, call by call.
        ratio_interval: Its quartiles.
    """

    median_ms: float
    p95_ms: float
    ratio: float
    ratio_interval: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Effort:
    """How often calls are timed.

    Args:
        rounds: How often each is timed at most.
        warm_up: How often each is called before, at most.
        seconds: No further round begins after so long, nor is more warmed up after a fifth of it; None for no limit.
        least: Rounds that are timed however long they take.
    """

    rounds: int = 40
    warm_up: int = 5
    seconds: float | None = None
    least: int = 3


def time_calls(
    calls: Mapping[str, Callable[[], object]], effort: Effort, threads: int = 1, progress: str = ""
) -> np.ndarray:
    """Time calls against each other: one of each, then again, the order reversed every other round.

    Args:
        calls: What to time, by name.
        effort: How often.
        threads: torch's threads meanwhile.
        progress: What a progress bar on stderr is called; empty for none.

    Returns:
        Milliseconds, `(rounds, calls)`; the rounds may be fewer than wanted where the time was short.
    """
    each = list(calls.values())
    times = np.empty((effort.rounds, len(each)))
    with use_threads(threads), torch.inference_mode():
        _warm_up(each, effort)
        begin = time.perf_counter()
        for turn in tqdm(range(effort.rounds), desc=progress, unit="round", disable=not progress, leave=False):
            if effort.seconds is not None and turn >= effort.least and time.perf_counter() - begin > effort.seconds:
                return times[:turn]
            for index in range(len(each)) if turn % 2 == 0 else reversed(range(len(each))):
                start = time.perf_counter()
                each[index]()
                times[turn, index] = (time.perf_counter() - start) * 1e3
    return times


def _warm_up(calls: list[Callable[[], object]], effort: Effort) -> None:
    """Call each once at least, where that is wanted at all."""
    begin = time.perf_counter()
    for call in calls:
        for turn in range(effort.warm_up):
            if turn and effort.seconds is not None and time.perf_counter() - begin > effort.seconds / 5:
                break
            call()


def summarize(times: np.ndarray) -> list[Latency]:
    """Return what times `(rounds, calls)` say of each call; the first is what the others are compared with."""
    ratios = times / times[:, :1]
    return [
        Latency(
            median_ms=float(np.median(times[:, index])),
            p95_ms=float(np.percentile(times[:, index], 95)),
            ratio=float(np.median(ratios[:, index])),
            ratio_interval=(float(np.percentile(ratios[:, index], 25)), float(np.percentile(ratios[:, index], 75))),
        )
        for index in range(times.shape[1])
    ]


def measure_latency(
    calls: Mapping[str, Callable[[], object]], rounds: int = 40, warm_up: int = 5, threads: int = 1
) -> dict[str, Latency]:
    """Time calls against each other, as `time_calls` does; the first is what the others are compared with.

    Args:
        calls: What to time, by name.
        rounds: How often each is timed.
        warm_up: How often each is called before.
        threads: torch's threads meanwhile.
    """
    times = time_calls(calls, Effort(rounds, warm_up), threads)
    return dict(zip(calls, summarize(times), strict=True))


def model_call(model: Runnable, task: Task, batch_size: int = 1, length: int = 128) -> Callable[[], object]:
    """Return a function that runs a model once on random inputs.

    Args:
        model: What is called; it is put into evaluation mode.
        task: Knows the inputs: tokens, tokens for encoder and decoder, or pixels.
        batch_size: How many texts or images a call takes.
        length: Tokens a text, cut to what the model takes; images have the model's size.
    """
    example = task.example_inputs(model.config, batch_size, length)
    inputs = {name: value.to(model.device) for name, value in example.items()}
    model.eval()
    return lambda: model(**inputs)


@contextmanager
def use_threads(threads: int) -> Iterator[None]:
    """Set torch's number of threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
