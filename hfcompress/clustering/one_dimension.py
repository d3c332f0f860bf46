"""K-means of numbers: exact steps of Lloyd's algorithm on sorted values, millions of them in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Start = Literal["linear", "density", "kmeans++"]

_ROUNDS = 500
_SEEDS_FROM = 2**14
"""k-means++ draws its centres among so many values at most, evenly spread over the sorted ones."""


@dataclass(frozen=True)
class Sums:
    """Sorted values, and sums over those that stand before each place.

    Args:
        values: `(count,)`, sorted.
        weights: Of the values before each place, `(count + 1,)`.
        first: The same of weight times value.
        second: The same of weight times the value's square.
    """

    values: np.ndarray
    weights: np.ndarray
    first: np.ndarray
    second: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, weights: np.ndarray | None = None) -> Sums:
        """Sort values, and sum them up.

        Args:
            values: `(count,)`.
            weights: How much each counts, `(count,)`; None for all alike.
        """
        if weights is None:
            ordered = np.sort(values).astype(np.float64)
            counted = np.ones(len(ordered))
        else:
            order = np.argsort(values, kind="stable")
            ordered, counted = values[order].astype(np.float64), weights[order].astype(np.float64)
        sums = [_before(counted), _before(counted * ordered), _before(counted * ordered**2)]
        return cls(ordered, *sums)

    def clusters(self, cuts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return weight, mean and weighted squared error of the values between cuts; an empty cluster's mean is NaN.

        Args:
            cuts: Places between the clusters, the first 0 and the last `count`.
        """
        weight, first, second = (np.diff(sums[cuts]) for sums in (self.weights, self.first, self.second))
        with np.errstate(invalid="ignore", divide="ignore"):
            means = first / weight
            return weight, means, np.maximum(second - first * means, 0)


def _before(values: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(values)])


@dataclass(frozen=True)
class Quantizer:
    """Which value stands for which.

    Args:
        centroids: Sorted, `(clusters,)`.
        bounds: The last value of each cluster but one, `(clusters - 1,)`.
    """

    centroids: np.ndarray
    bounds: np.ndarray

    @classmethod
    def nearest(cls, centroids: np.ndarray) -> Quantizer:
        """Return the one that takes the nearest centroid, of two at the same distance the lower."""
        return cls(centroids, (centroids[1:] + centroids[:-1]) / 2)

    def places(self, values: np.ndarray) -> np.ndarray:
        """Return each value's cluster, `(count,)`, int64."""
        return np.searchsorted(self.bounds, values, side="left")


def kmeans(
    values: np.ndarray,
    clusters: int,
    weights: np.ndarray | None = None,
    start: Start = "linear",
    bit_price: float = 0.0,
    seed: int = 0,
) -> Quantizer:
    """Return the clusters of numbers: a local minimum of the weighted squared error.

    With a price it is the error plus `price` times the bits of a value's place by its entropy (entropy-constrained
    scalar quantization, Chou et al. 1989; for networks Choi et al. 2017, arXiv 1612.01543): fewer values are then
    common, rare ones are far from the mean, and a `.hfz` is smaller at the same error.

    Args:
        values: At least one, `(count,)`.
        clusters: How many at most; where no more values differ, they are the centroids.
        weights: How much each value counts, `(count,)`, above 0; None for all alike.
        start: `linear` over the range, `density` at quantiles, or `kmeans++` (Arthur and Vassilvitskii 2007).
        bit_price: What a bit costs, as a share of the values' variance.
        seed: For k-means++.
    """
    different = _few(values, clusters)
    if different is not None and not bit_price:
        return Quantizer.nearest(different)
    sums = Sums.of(values, weights)
    found = Quantizer.nearest(different if different is not None else _begin(sums, clusters, start, seed))
    found = _lloyd(sums, found.centroids)
    return _with_price(sums, found, bit_price) if bit_price else found


def _few(values: np.ndarray, clusters: int) -> np.ndarray | None:
    """Return the different values where there are no more than clusters."""
    if len(np.unique(values[: 8 * clusters])) > clusters:
        return None
    different = np.unique(values)
    return different.astype(np.float64) if len(different) <= clusters else None


def _begin(sums: Sums, clusters: int, start: Start, seed: int) -> np.ndarray:
    values = sums.values
    if start == "linear":
        return np.linspace(values[0], values[-1], clusters)
    if start == "density":
        wanted = (np.arange(clusters) + 0.5) / clusters * sums.weights[-1]
        return values[np.minimum(np.searchsorted(sums.weights[1:], wanted), len(values) - 1)]
    spread = np.linspace(0, len(values), min(len(values), _SEEDS_FROM) + 1).astype(np.int64)
    weights, points, _ = sums.clusters(spread)
    generator = np.random.default_rng(seed)
    chosen = [generator.choice(points, p=weights / weights.sum())]
    distance = np.full(len(points), np.inf)
    while len(chosen) < clusters:
        distance = np.minimum(distance, (points - chosen[-1]) ** 2)
        share = distance * weights
        if not share.sum():
            break
        chosen.append(generator.choice(points, p=share / share.sum()))
    return np.sort(chosen)


def _lloyd(sums: Sums, centroids: np.ndarray) -> Quantizer:
    """Move centroids to the mean of what is nearest to them until nothing changes."""
    last: np.ndarray | None = None
    for _ in range(_ROUNDS):
        cuts = _cuts(sums, Quantizer.nearest(centroids).bounds)
        weight, means, errors = sums.clusters(cuts)
        empty = weight <= 0
        if last is not None and np.array_equal(cuts, last):
            break
        last = cuts
        means[empty] = _halves(sums, cuts, errors, int(empty.sum()))
        centroids = np.sort(means)
    return Quantizer.nearest(centroids)


def _cuts(sums: Sums, bounds: np.ndarray) -> np.ndarray:
    inner = np.searchsorted(sums.values, bounds, side="right")
    return np.concatenate([[0], inner, [len(sums.values)]])


def _halves(sums: Sums, cuts: np.ndarray, errors: np.ndarray, count: int) -> np.ndarray:
    """Return where empty clusters go: to the upper half of those with the greatest error."""
    worst = np.argsort(-np.nan_to_num(errors), kind="stable")[:count]
    return np.array([sums.values[min((cuts[one] + 3 * cuts[one + 1]) // 4, cuts[one + 1] - 1)] for one in worst])


def _with_price(sums: Sums, found: Quantizer, price: float) -> Quantizer:
    """Go on where a value's bits cost something; clusters that nobody pays for go."""
    total = sums.weights[-1]
    _, _, error = sums.clusters(np.array([0, len(sums.values)]))
    price *= float(error[0]) / total
    centroids, bounds = found.centroids, found.bounds
    weight, _, _ = sums.clusters(_cuts(sums, bounds))
    for _ in range(_ROUNDS):
        kept = weight > 0
        weight, centroids = weight[kept], centroids[kept]
        apart = np.diff(centroids, prepend=-np.inf) > 0
        weight, centroids = weight[apart], centroids[apart]
        bits = -np.log2(weight / total)
        bounds = (centroids[1:] + centroids[:-1]) / 2 + price * np.diff(bits) / (2 * np.diff(centroids))
        crossed = np.flatnonzero(np.diff(bounds) < 0)
        if len(crossed):  # what lies between two crossed bounds is never the cheapest
            weight[crossed[np.argmin(weight[crossed + 1])] + 1] = 0
            continue
        weight, means, _ = sums.clusters(_cuts(sums, bounds))
        if np.array_equal(means, centroids):
            break
        centroids = np.where(weight > 0, means, centroids)
    return Quantizer(centroids, bounds)
