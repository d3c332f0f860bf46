"""Kernels at every rank: what decompositions have in common that look at a convolution's patches."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hfcompress.calibration.least_squares import regression
from hfcompress.factorization.chains import Shapes, channel_chain, channel_shapes
from hfcompress.factorization.decompose import Decomposition, for_outputs, is_low, on_narrow_side, svd
from hfcompress.modeling.linear import matrix

if TYPE_CHECKING:
    from hfcompress.factorization.patches import Seen
    from hfcompress.modeling.low_rank import ConvChain

_RANKS = 8
"""How many ranks are tried of a kernel where each costs a decomposition of its own."""

Ranks = tuple[int, ...]


class Kernel:
    """A convolution at every rank: what that loses, and the chain that it becomes.

    Losses are `½ tr(G ΔW C ΔWᵀ)`, with `C` the covariance of the patches and `G` the second moment of the gradient
    behind: what the loss grows by.

    Args:
        layer: The convolution.
        seen: What was seen of it.
    """

    def __init__(self, layer: nn.Conv2d, seen: Seen) -> None:
        self.layer, self.seen = layer, seen

    @cached_property
    def matrix(self) -> Tensor:
        """The weight, `(outputs, inputs · height · width)`."""
        return matrix(self.layer).double().cpu()

    @cached_property
    def products(self) -> Tensor:
        """Covariance of outputs and patches, `(outputs, inputs · height · width)`."""
        return self.matrix @ self.seen.covariance

    @cached_property
    def whole(self) -> float:
        """What is lost where nothing stays."""
        return self._weigh(self.products @ self.matrix.T)

    @property
    def full(self) -> Ranks:
        """The ranks above which nothing is won."""
        raise NotImplementedError

    def loss(self, ranks: Ranks) -> float:
        """Return what is lost at some ranks."""
        raise NotImplementedError

    def shapes(self, ranks: Ranks) -> Shapes:
        """Return the convolutions that the layer becomes, as `ConvChain.shapes` says."""
        raise NotImplementedError

    def chain(self, ranks: Ranks) -> ConvChain:
        """Return the layer at some ranks."""
        raise NotImplementedError

    def grid(self, multiple: int) -> list[Ranks]:
        """Return the ranks that a budget chooses among."""
        return [(rank,) for rank in spread(self.full[0], multiple)]

    def _weigh(self, covariance: Tensor) -> float:
        """Return the loss for outputs that are off by this covariance `(outputs, outputs)`."""
        return 0.5 * float((self.seen.gradient * covariance).sum().clamp(min=0))

    def lost(self, weight: Tensor) -> float:
        """Return what is lost with another weight, `(outputs, inputs · height · width)`."""
        off = self.matrix - weight
        return self._weigh(off @ self.seen.covariance @ off.T)

    def lost_by(self, weight: Tensor, projected: Tensor, products: Tensor) -> float:
        """Return what is lost by regressing on something that patches are projected to.

        Args:
            weight: The regression, `(outputs, width)`.
            projected: Covariance of what it reads, `(width, width)`.
            products: Covariance of outputs and what it reads, `(outputs, width)`.
        """
        crossed = weight @ products.T
        return self._weigh(self.products @ self.matrix.T - crossed - crossed.T + weight @ projected @ weight.T)


class ThinKernel(Kernel):
    """A kernel with fewer outputs, then 1 × 1: the best of each rank, by one decomposition.

    Args:
        layer: The convolution.
        seen: What was seen of it.
        plain: Stay nearest to the weights, not to the outputs.
    """

    def __init__(self, layer: nn.Conv2d, seen: Seen, plain: bool = False) -> None:
        super().__init__(layer, seen)
        self.plain = plain

    @cached_property
    def _found(self) -> Decomposition:
        if self.plain:
            return svd(self.matrix)
        return for_outputs(self.matrix, self.seen.covariance, None, self.seen.gradient)

    @property
    def full(self) -> Ranks:
        """The ranks above which nothing is won."""
        return (min(self.matrix.shape),)

    def loss(self, ranks: Ranks) -> float:
        """Return what is lost at a rank."""
        if not self.plain:
            return float(self._found.losses[ranks[0]])
        left = self._found.columns[:, ranks[0] :] @ self._found.rows[ranks[0] :]
        return self.lost(self.matrix - left)

    def shapes(self, ranks: Ranks) -> Shapes:
        """Return the two convolutions' shapes."""
        return channel_shapes(self.layer, ranks[0])

    def chain(self, ranks: Ranks) -> ConvChain:
        """Return the layer at a rank."""
        return channel_chain(self.layer, self._found.factors(ranks[0]))

    def grid(self, multiple: int) -> list[Ranks]:
        """Return the ranks that a budget chooses among: all, since each is known."""
        return [(rank,) for rank in multiples(self.full[0], multiple)]


def is_point(layer: nn.Conv2d) -> bool:
    """Say whether a kernel is 1 × 1: then it is a matrix, and all methods are one (Denton et al. 2014)."""
    return layer.kernel_size == (1, 1)


def multiples(full: int, multiple: int) -> list[int]:
    """Return the multiples of a number up to a full rank, and that itself."""
    return sorted({*range(multiple, full + 1, multiple), full})


def spread(full: int, multiple: int) -> list[int]:
    """Return some of them, the first and the last among them; more of the small ones, where losses fall fast."""
    every = multiples(full, multiple)
    last = max(1, min(_RANKS, len(every)) - 1)
    return sorted({every[round((len(every) - 1) * (place / last) ** 1.5)] for place in range(last + 1)})


def directions(weight: Tensor, covariance: Tensor, gradient: Tensor) -> Tensor:
    """Return the directions of a kernel's inputs that its outputs depend on most, `(terms, inputs)`, orthonormal.

    Each of the taps is taken as a layer of its own that reads the same directions; `for_outputs` says which these are.
    That patches overlap, so that taps read alike, is left for `refit`.

    Args:
        weight: `(outputs, inputs, taps)`.
        covariance: Of the patches, `(inputs · taps, inputs · taps)`.
        gradient: Second moment of the loss's gradient with respect to the outputs, `(outputs, outputs)`.
    """
    _, inputs, taps = weight.shape
    own = torch.einsum("ntmt->nm", covariance.view(inputs, taps, inputs, taps)) / taps
    rows = weight.transpose(1, 2).flatten(0, 1)
    if is_low(rows):
        found = for_outputs(rows, own, None, torch.kron(gradient, torch.eye(taps, dtype=torch.float64)))
    else:
        through = torch.einsum("ont,op,pmt->nm", weight, gradient, weight)
        found = on_narrow_side(rows, own, None, through)
    return torch.linalg.qr(found.rows.T).Q.T


def refit(kernel: Kernel, rows: Tensor, taps: int, nearest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Regress a convolution's outputs on what some directions of its patches hold, tap by tap.

    Args:
        kernel: The convolution.
        rows: The directions: `(width, inputs)` for patches of `(inputs · taps,)`.
        taps: How many there are.
        nearest: The regression that is nearest to the weights; where patches do not tell, this stays.

    Returns:
        The regression `(outputs, width · taps)`, the covariance of what it reads `(width · taps, width · taps)`, and
        that of outputs and what it reads `(outputs, width · taps)`.
    """
    products = _on_taps(rows, taps, kernel.products.T)
    projected = _on_taps(rows, taps, _on_taps(rows, taps, kernel.seen.covariance).T)
    return regression(projected, products, nearest.T).T, projected, products.T


def _on_taps(rows: Tensor, taps: int, values: Tensor) -> Tensor:
    """Return `(rows ⊗ 1) values`, of values `(inputs · taps, columns)`."""
    return (rows @ values.reshape(rows.shape[1], -1)).reshape(len(rows) * taps, -1)
