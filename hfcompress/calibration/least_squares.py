"""Least squares from sums over calibration tokens: means, covariances, and the layer that fits them best."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

RIDGE = 1e-4
"""Added to covariances, as a share of their mean diagonal: inputs that are never active make them singular."""

_NOTHING = 1e-8
"""Stands for a covariance of 0."""

_AT_ONCE = 1024
"""Tokens that are multiplied at once, about: to add a wide product in float64 takes as long as to multiply 400."""


@dataclass
class WeightedSums:
    """Sums over vectors, each with its weight, in float64.

    Args:
        squared: Whether to sum their products, too.
    """

    squared: bool = True
    count: float = 0.0
    inputs: Any = 0.0
    squares: Any = 0.0

    def add(self, inputs: Tensor, weights: Tensor) -> Tensor:
        """Take more vectors `(tokens, width)` with their weights `(tokens,)` into account; return them weighted."""
        weighted = inputs * weights[:, None]
        self.count += float(weights.sum())
        self.inputs = self.inputs + weighted.sum(0).double()
        if self.squared:
            self.squares = _plus(self.squares, weighted.T @ inputs)
        return weighted

    def average(self, centred: bool) -> Tensor:
        """Return the mean; not centred, 0."""
        mean: Tensor = self.inputs / self.count * centred
        return mean

    def moments(self, centred: bool) -> tuple[Tensor, Tensor]:
        """Return mean and covariance; not centred, a mean of 0 and the second moment about it. The sums are spent."""
        mean = self.average(centred)
        covariance: Tensor = self.squares.div_(self.count).addr_(mean, mean, alpha=-1)
        return mean, covariance


def _plus(total: Any, more: Tensor) -> Tensor:
    """Return a sum in float64; a large one grows in place."""
    return total.add_(more) if isinstance(total, Tensor) else more.double()


@dataclass
class Fit:
    """Moments that a regression needs.

    Args:
        mean: Of the inputs, `(channels,)`.
        covariance: Of the inputs, `(channels, channels)`.
        target_mean: Of the targets, `(outputs,)`, the bias not counted.
        products: Covariance of inputs and targets, `(channels, outputs)`.
    """

    mean: Tensor
    covariance: Tensor
    target_mean: Tensor
    products: Tensor


@dataclass
class PairSums(WeightedSums):
    """Sums over inputs and targets."""

    targets: Any = 0.0
    products: Any = 0.0
    _waiting: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)

    def add_pairs(self, inputs: Tensor, targets: Tensor, weights: Tensor) -> None:
        """Take more tokens `(tokens, …)` into account."""
        self._waiting.append((inputs, targets, weights))
        if sum(len(weights) for _, _, weights in self._waiting) >= _AT_ONCE:
            self._sum_up()

    def _sum_up(self) -> None:
        if self._waiting:
            inputs, targets, weights = (torch.cat(parts) for parts in zip(*self._waiting, strict=True))
            self._waiting.clear()
            weighted = self.add(inputs, weights)
            self.targets = self.targets + (targets * weights[:, None]).sum(0).double()
            self.products = _plus(self.products, weighted.T @ targets)

    def fit(self, centred: bool) -> Fit:
        """Return means and covariances; not centred, as a layer without a bias needs them, about 0."""
        self._sum_up()
        mean, covariance = self.moments(centred)
        target = self.targets / self.count * centred
        return Fit(mean, covariance, target, self.products.div_(self.count).addr_(mean, target, alpha=-1))


def with_ridge(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Return a covariance, which may be singular, with something added to its diagonal, and how much that is."""
    extra = RIDGE * covariance.diagonal().mean().clamp(min=_NOTHING)
    regular = covariance.clone()
    regular.diagonal().add_(extra)
    return regular, extra


def regression(covariance: Tensor, products: Tensor, dense: Tensor) -> Tensor:
    """Return the weights `(channels, outputs)` of a ridge regression that shrinks towards the dense ones."""
    if not len(covariance):
        return dense
    regular, extra = with_ridge(covariance)
    factor, failed = torch.linalg.cholesky_ex(regular)
    if failed:  # what was summed in float32 can be less than the ridge below 0
        return torch.linalg.solve(regular, products + extra * dense)
    return torch.cholesky_solve(products + extra * dense, factor)
