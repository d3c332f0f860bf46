"""Latency: models interleaved in one process, so that a noisy machine is noisy for all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hfcompress.tasks import Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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


def measure_latency(
    calls: Mapping[str, Callable[[], object]], rounds: int = 40, warm_up: int = 5, threads: int = 1
) -> dict[str, Latency]:
    """Time calls against each other: one of each, then again, the order reversed every other round.

    Args:
        calls: What to time, by name; the first is what the others are compared with.
        rounds: How often each is timed.
        warm_up: How often each is called before.
        threads: torch's threads meanwhile.
    """
    names = list(calls)
    times = np.empty((rounds, len(names)))
    with use_threads(threads), torch.inference_mode():
        for call in calls.values():
            for _ in range(warm_up):
                call()
        for turn in range(rounds):
            for index in range(len(names)) if turn % 2 == 0 else reversed(range(len(names))):
                start = time.perf_counter()
                calls[names[index]]()
                times[turn, index] = (time.perf_counter() - start) * 1e3
    ratios = times / times[:, :1]
    return {
        name: Latency(
            median_ms=float(np.median(times[:, index])),
            p95_ms=float(np.percentile(times[:, index], 95)),
            ratio=float(np.median(ratios[:, index])),
            ratio_interval=(float(np.percentile(ratios[:, index], 25)), float(np.percentile(ratios[:, index], 75))),
        )
        for index, name in enumerate(names)
    }


def model_call(model: PreTrainedModel, task: Task, batch_size: int = 1, length: int = 128) -> Callable[[], object]:
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
