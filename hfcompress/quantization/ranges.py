"""Calibrators: from the values that flow on calibration rows to the range that 8 bits should span."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from hfcompress.quantization.convert import Batches
from hfcompress.quantization.observing import observe

Calibrator = Literal["minmax", "percentile", "entropy"]
Range = tuple[float, float]

CALIBRATORS: tuple[Calibrator, ...] = ("minmax", "percentile", "entropy")
BINS = 2048
_LEVELS = 128  # of the magnitudes in 8 bits, as in TensorRT's calibrator
_STRIDE = 16  # bins between thresholds that are tried


@dataclass
class Seen:
    """What was seen of one value.

    Args:
        low: The smallest number, or 0.
        high: The largest, or 0: a range holds 0, which padding and rectifiers make.
        counts: How many numbers lay in each of `BINS` equal parts from low to high.
    """

    low: float = 0.0
    high: float = 0.0
    counts: np.ndarray = field(default_factory=lambda: np.zeros(BINS))


def look(source: Path, names: Collection[str], batches: Batches) -> dict[str, Seen]:
    """Run a graph twice on calibration rows: for the limits of values, and for the counts between them."""
    seen = {name: Seen() for name in names}
    for values in observe(source, names, batches):
        for name, value in values.items():
            one = seen[name]
            one.low = min(one.low, float(value.min(initial=0)))
            one.high = max(one.high, float(value.max(initial=0)))
    for values in observe(source, names, batches):
        for name, value in values.items():
            one = seen[name]
            if one.high > one.low:
                one.counts += np.histogram(value, BINS, (one.low, one.high))[0]
    return seen


def range_of(seen: Seen, calibrator: Calibrator, percentile: float = 99.99) -> Range:
    """Return the range of a value.

    Args:
        seen: What was seen of it.
        calibrator: `minmax` spans all; `percentile` leaves out equally many of the smallest and of the largest;
            `entropy` cuts where what is left, in 8 bits, diverges least from what there was (Migacz 2017).
        percentile: Percent of the numbers that `percentile` spans.
    """
    if calibrator == "minmax" or seen.high <= seen.low or not seen.counts.any():
        return seen.low, seen.high
    edges = np.linspace(seen.low, seen.high, BINS + 1)
    if calibrator == "percentile":
        share = np.cumsum(seen.counts) / seen.counts.sum()
        out = (1 - percentile / 100) / 2
        first, last = int(np.searchsorted(share, out, "right")), int(np.searchsorted(share, 1 - out, "left"))
        low, high = float(edges[first]), float(edges[min(last, BINS - 1) + 1])
        return min(low, 0.0), max(high, 0.0)
    threshold = _threshold(*_magnitudes(seen, edges))
    return max(seen.low, -threshold), min(seen.high, threshold)


def _magnitudes(seen: Seen, edges: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the counts by magnitude, and the width of a bin."""
    middles, top = np.abs((edges[:-1] + edges[1:]) / 2), max(-seen.low, seen.high)
    return np.histogram(middles, BINS, (0, top), weights=seen.counts)[0], top / BINS


def _threshold(counts: np.ndarray, width: float) -> float:
    """Return the magnitude to cut at: `argmin KL(P ‖ Q)`, `P` cut with the rest in its last bin, `Q` in 128 levels."""
    best, chosen = np.inf, BINS
    for stop in range(_LEVELS, BINS + 1, _STRIDE):
        whole = counts[:stop].astype(np.float64)
        there = whole > 0
        cut = whole.copy()
        cut[-1] += counts[stop:].sum()
        levels = np.minimum(np.arange(stop) * _LEVELS // stop, _LEVELS - 1)
        sums = np.bincount(levels, whole, _LEVELS)
        filled = np.maximum(np.bincount(levels, there, _LEVELS), 1)
        coarse = np.where(there, (sums / filled)[levels], 0)
        used = cut > 0
        if not coarse.any():
            continue
        one, other = cut / cut.sum(), np.maximum(coarse / coarse.sum(), 1e-9)
        divergence = float((one[used] * np.log(one[used] / other[used])).sum())
        if divergence < best:
            best, chosen = divergence, stop
    return chosen * width
