"""What ranks cost by this machine's clock: one matrix against two thin ones, measured once for each shape."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from hfcompress.measure.timings import time_once

LENGTH = 128
"""Tokens of the text that is timed, as everywhere in the package's tables."""

_POINTS = 8
"""How many ranks are timed for each shape; between them time is a straight line."""


def time_ranks(outputs: int, inputs: int, largest: int) -> tuple[np.ndarray, float]:
    """Return how long a linear layer takes at each rank: a text of 128 tokens, one thread, PyTorch.

    It is measured the first time on a machine, which takes two seconds, and then kept in the user's cache.

    Args:
        outputs: Its outputs.
        inputs: Its inputs.
        largest: The largest rank.

    Returns:
        Milliseconds for rank 0, 1, 2, …, `(largest + 1,)`, never falling, and as one matrix.
    """
    points = sorted({round(rank) for rank in np.linspace(1, largest, _POINTS)}) if largest else []
    calls = {"dense": _call(outputs, inputs)} | {str(rank): _call(outputs, inputs, rank) for rank in points}
    dense, *timed = time_once(f"linear {outputs}x{inputs}, {LENGTH} tokens, by rank", calls).values()
    times = np.interp(np.arange(largest + 1), [0, *points], [0.0, *timed])
    return np.maximum.accumulate(times), dense


def _call(outputs: int, inputs: int, rank: int | None = None) -> Callable[[], object]:
    values = torch.randn(1, LENGTH, inputs)
    if rank is None:
        weight = torch.randn(outputs, inputs)
        return lambda: functional.linear(values, weight)
    down, up = torch.randn(rank, inputs), torch.randn(outputs, rank)
    return lambda: functional.linear(functional.linear(values, down), up)
