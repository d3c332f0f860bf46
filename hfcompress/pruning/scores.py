"""Choosing by scores: exact counts, ties by size, and a gradient for what is chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def lowest(scores: Tensor, count: int, sizes: Callable[[], Tensor] | None = None) -> Tensor:
    """Mark exactly `count` of `n` scores, from the lowest up.

    Args:
        scores: `(n,)`.
        count: How many.
        sizes: Returns `(n,)`: of equal scores those of the smallest sizes are marked, of equal sizes too (or without
            them) the first. Called only where scores are equal.

    Returns:
        `(n,)`, True where it is marked.
    """
    if count == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    # Far quicker than sorting; on CUDA not to be had deterministically.
    edge = scores.sort().values[count - 1] if scores.is_cuda else scores.kthvalue(count).values
    marked = scores < edge
    equal = (scores == edge).nonzero().flatten()
    more = count - int(marked.sum())
    if sizes is not None and more < len(equal):
        equal = equal[sizes()[equal].argsort(stable=True)]
    marked[equal[:more]] = True
    return marked


def straight_through(scores: Tensor, mask: Tensor) -> Tensor:
    """Return a mask whose gradient goes to the scores unchanged (Bengio et al. 2013, arXiv 1308.3432).

    Args:
        scores: Of any shape.
        mask: Of the same shape; True where the scores chose to keep.

    Returns:
        1 where `mask` is True, 0 elsewhere, as numbers of the scores' type.
    """
    result: Tensor = _StraightThrough.apply(scores, mask)
    return result


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, mask: Tensor) -> Tensor:
        return mask.to(scores.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None
