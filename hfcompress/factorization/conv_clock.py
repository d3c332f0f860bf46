"""What chains of convolutions cost by this machine's clock, at the sizes of images that they meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from hfcompress.factorization.chains import Shapes, macs_of
from hfcompress.measure.timings import time_once
from hfcompress.modeling.low_rank import chain_of

_POINTS = 8
"""How many chains are timed for each layer; between them time is a straight line over multiply-accumulates."""


def time_chains(dense: Shapes, chains: Sequence[Shapes], size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """Return how long chains take in the place of one convolution: one image, one thread, PyTorch.

    It is measured the first time on a machine, and then kept in the user's cache.

    Args:
        dense: The convolution as a chain of one.
        chains: Those of one method, each with more multiply-accumulates than the one before.
        size: Height and width of what they read.

    Returns:
        Milliseconds of each chain, never falling, and of the one convolution.
    """
    places = sorted({round(place) for place in np.linspace(0, len(chains) - 1, min(_POINTS, len(chains)))})
    timed = [chains[place] for place in places]
    calls = {_name(dense): _call(dense, size)} | {_name(chain): _call(chain, size) for chain in timed}
    height, width = size
    found = time_once(f"convolution {_name(dense)} of {height}x{width}", calls)
    macs = [macs_of(chain, size) for chain in chains]
    times = np.interp(macs, [macs[place] for place in places], [found[_name(chain)] for chain in timed])
    return np.maximum.accumulate(times), found[_name(dense)]


def _name(shapes: Shapes) -> str:
    return " then ".join("x".join(map(str, shape)) for shape in shapes)


def _call(shapes: Shapes, size: tuple[int, int]) -> Callable[[], object]:
    chain = chain_of(shapes, bias=False)
    values = torch.randn(1, chain.in_channels, *size)
    return lambda: chain(values)
