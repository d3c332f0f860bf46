"""A weight as codebooks and places in them: few values, zeros that stay zero, and some weights that stay exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from hfcompress.clustering.one_dimension import Quantizer, Start, kmeans

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Sharing:
    """How the weights of one tensor are shared.

    Args:
        clusters: Values of a codebook, zero not counted.
        groups: Of rows, each with its own codebook.
        start: Of k-means.
        outliers: Share of the weights, those of the greatest absolute value, that stay as they are.
        bit_price: What a bit of a place costs, as a share of the weights' variance.
        seed: For k-means++.
    """

    clusters: int
    groups: int = 1
    start: Start = "linear"
    outliers: float = 0.0
    bit_price: float = 0.0
    seed: int = 0


@dataclass
class Codebook:
    """The values of a weight.

    Args:
        values: First 0, then the centroids of all groups, `(values,)`, in the weight's type.
        places: Which value each weight has, int32, in the weight's shape.
        exact: Which weights stay as they are, by their place in the flattened tensor, `(exact,)`, int64.
        kept: Those weights, `(exact,)`.
    """

    values: Tensor
    places: Tensor
    exact: Tensor
    kept: Tensor

    def weight(self) -> Tensor:
        """Return the weight that the codebook stands for."""
        found = self.values[self.places.long()]
        found.view(-1)[self.exact] = self.kept
        return found


def share(weight: Tensor, sharing: Sharing, information: Tensor | None = None) -> Codebook:
    """Find the codebook of a weight by k-means.

    Args:
        weight: Finite, at least two-dimensional.
        sharing: How.
        information: How much each weight counts, above 0, in its shape; None for all alike.
    """
    flat = weight.detach().float().cpu().numpy().reshape(-1)
    counts = None if information is None else information.float().cpu().numpy().reshape(-1)
    exact = _outliers(flat, sharing.outliers)
    free = flat != 0
    free[exact] = False
    places = np.zeros(len(flat), dtype=np.int32)
    centroids: list[np.ndarray] = []
    row = len(flat) // len(weight)
    step = -(-len(weight) // sharing.groups) * row
    for start in range(0, len(flat), step):
        part = slice(start, start + step)
        own = free[part]
        if not own.any():
            continue
        values = flat[part][own]
        found = _cluster(values, sharing, None if counts is None else counts[part][own])
        places[part][own] = found.places(values) + 1 + sum(map(len, centroids))
        centroids.append(found.centroids)
    return Codebook(
        torch.from_numpy(np.concatenate([[0.0], *centroids])).to(weight),
        torch.from_numpy(places).view(weight.shape).to(weight.device),
        torch.from_numpy(exact).to(weight.device),
        weight.detach().reshape(-1)[torch.from_numpy(exact).to(weight.device)].clone(),
    )


def _cluster(values: np.ndarray, sharing: Sharing, counts: np.ndarray | None) -> Quantizer:
    return kmeans(values, sharing.clusters, counts, sharing.start, sharing.bit_price, sharing.seed)


def _outliers(flat: np.ndarray, share_of_all: float) -> np.ndarray:
    """Return the places of the weights of the greatest absolute value, in order; never a zero."""
    count = min(round(share_of_all * len(flat)), int(np.count_nonzero(flat)))
    if not count:
        return np.zeros(0, dtype=np.int64)
    return np.sort(np.argpartition(-np.abs(flat), count - 1)[:count])
