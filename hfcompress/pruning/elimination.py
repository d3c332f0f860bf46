"""In what order units can go, and what each costs, when the layer that reads them makes up for it as well as it can."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hfcompress.calibration.least_squares import with_ridge

_SHARE = 32
"""One unit in so many goes at a time while the units are narrow: their order hardly depends on it."""


@dataclass(frozen=True)
class Elimination:
    """The result of removing all units of a group one after another.

    Args:
        order: The units, the first to go first.
        losses: What is lost once the first 0, 1, 2, … of them are gone, `(units + 1,)`.
    """

    order: list[int]
    losses: np.ndarray

    def kept(self, removed: int) -> list[int]:
        """Return the units that are left once so many are gone, ascending."""
        return sorted(self.order[removed:])


def eliminate(weight: Tensor, covariance: Tensor, gradient: Tensor, width: int) -> Elimination:
    """Remove units one after another, always the one whose loss is smallest once the others make up for it.

    The reader's output `W x` changes by `ΔW x`, and the loss by about `½ E[(gᵀ ΔW x)²]`, with `g` the loss's gradient
    with respect to that output: `½ tr(G ΔW C ΔWᵀ)` where `C` is the covariance of `x`, and `G` that of `g`. Among all
    `ΔW` that silence the channels `j` of a unit, the smallest loss is that of Optimal Brain Surgeon (Hassibi and Stork
    1993, equation 5, with `C⊗G` for the Hessian): `½ tr(G W_j (C⁻¹_jj)⁻¹ W_jᵀ)`, reached by
    `ΔW = −W_j (C⁻¹_jj)⁻¹ C⁻¹_j·`. Both are brought up to date after each step, as in ZipLM (Kurtic et al. 2023,
    arXiv 2302.04089, algorithm 1), so that two units that do the same are not both taken for superfluous.

    Args:
        weight: Of the reader, `(outputs, channels)`, the channels of each unit side by side.
        covariance: Of the reader's input, `(channels, channels)`.
        gradient: Second moment of the loss's gradient with respect to the reader's output, `(outputs, outputs)`.
        width: Channels of a unit.

    Returns:
        Order and losses.
    """
    inverse = _inverse(covariance)
    values, vectors = torch.linalg.eigh(gradient.double())
    # tr(G A) = |√G A|²: from here on losses are sums of squares.
    seen = (values.clamp(min=0).sqrt()[:, None] * (vectors.T @ weight.double())).float()
    left = torch.arange(weight.shape[1] // width)
    order: list[int] = []
    losses = [0.0]
    while len(left):
        each = _losses(seen, inverse, width)
        count = max(1, len(left) // _SHARE) if width == 1 else 1
        gone = each.topk(count, largest=False).indices
        channels = (gone[:, None] * width + torch.arange(width)).flatten()
        seen, inverse, together = _without(seen, inverse, channels)
        shares = each[gone].cumsum(0).double()
        scale = together / shares[-1].clamp(min=torch.finfo(torch.float64).tiny)
        losses += (losses[-1] + shares * scale).tolist()
        order += left[gone].tolist()
        left = left[_others(gone, len(left))]
    return Elimination(order, np.maximum.accumulate(np.asarray(losses)))


def _inverse(covariance: Tensor) -> Tensor:
    wide = covariance.double()
    return torch.linalg.inv(with_ridge(wide)[0]).float()


def _losses(seen: Tensor, inverse: Tensor, width: int) -> Tensor:
    """Return what the removal of each unit alone costs, `(units,)`."""
    if width == 1:
        return seen.square().sum(0) / (2 * inverse.diagonal())
    units = len(inverse) // width
    own = inverse.view(units, width, units, width).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
    columns = seen.view(len(seen), units, width).permute(1, 2, 0)
    return (columns * torch.linalg.solve(own, columns)).sum((1, 2)) / 2


def _without(seen: Tensor, inverse: Tensor, channels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Remove channels; return what is left of weight and inverse, and the loss, a scalar."""
    columns = seen[:, channels]
    own = inverse[channels][:, channels].double()
    spread = torch.linalg.solve(own, inverse[channels].double()).float()
    loss = (columns.double() * torch.linalg.solve(own, columns.double().T).T).sum() / 2
    rest = _others(channels, len(inverse))
    left = (seen - columns @ spread)[:, rest]
    return left, (inverse - inverse[:, channels] @ spread)[rest][:, rest], loss


def _others(gone: Tensor, total: int) -> Tensor:
    """Mark all but some positions, `(total,)`."""
    mask = torch.ones(total, dtype=torch.bool)
    mask[gone] = False
    return mask
