"""The `cp` step: convolutions as sums of products of four vectors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn

from hfcompress.factorization.chains import Shapes, canonical_chain, canonical_shapes
from hfcompress.factorization.convolutions import ConvOptions, factorize_convolutions, predict_convolutions
from hfcompress.factorization.kernels import Kernel, Ranks, ThinKernel, is_point, refit, spread
from hfcompress.factorization.tensors import Canonical, balanced, canonical
from hfcompress.registry import register

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from hfcompress.context import Context
    from hfcompress.factorization.patches import Seen
    from hfcompress.modeling.low_rank import ConvChain


@dataclass
class CpConfig(ConvOptions):
    """Options of `cp`."""


def predict_cp(model: PreTrainedModel, config: CpConfig, context: Context) -> PretrainedConfig:
    """Return the config of the model that `cp` would make; see `predict_convolutions`."""
    return predict_convolutions(model, config, context, partial(_kernel, plain=config.plain))


@register("factorization", "cp", CpConfig, predict=predict_cp)
def cp(model: PreTrainedModel, config: CpConfig, context: Context) -> PreTrainedModel:
    """Replace convolutions by 1 × 1, a column and a row channel by channel, and 1 × 1; 1 × 1 ones as `channel` does.

    `W_oihw ≈ Σ_r up_or column_rh row_rw down_ri` (Lebedev et al. 2015, "Speeding-up Convolutional Neural Networks Using
    Fine-tuned CP-Decomposition", arXiv 1412.6553), by alternating least squares, with some ranks tried of each kernel.
    Then `up` is a regression of the outputs on what the others give, unless `plain`. The four vectors of a product are
    of one size; training it further can diverge nevertheless: take a small learning rate, or `tucker`.

    Args:
        model: The model; changed in place.
        config: Which convolutions, their ranks, and on how many images.
        context: Gives the calibration rows, and the seed of the vectors to begin with.

    Raises:
        RequestError: There are no convolutions, the filters match none, or the budget cannot be met.
        DataError: There are too few rows.
        ModelError: Weights, activations or gradients are NaN or infinite; the layer is named.
    """
    return factorize_convolutions(model, config, context, partial(_kernel, plain=config.plain, seed=context.seed))


def _kernel(layer: nn.Conv2d, seen: Seen, plain: bool, seed: int = 0) -> Kernel:
    return ThinKernel(layer, seen, plain) if is_point(layer) else CanonicalKernel(layer, seen, plain, seed)


class CanonicalKernel(Kernel):
    """A kernel as a sum of products of four vectors.

    Args:
        layer: The convolution.
        seen: What was seen of it.
        plain: Stay nearest to the weights, not to the outputs.
        seed: Of the vectors to begin with.
    """

    def __init__(self, layer: nn.Conv2d, seen: Seen, plain: bool, seed: int = 0) -> None:
        super().__init__(layer, seen)
        self.plain, self.seed = plain, seed
        self._found: dict[Ranks, tuple[Canonical, float]] = {}

    @property
    def full(self) -> Ranks:
        """The largest rank at which it is smaller: the rank of a tensor itself is not known."""
        return (max(1, (self.layer.weight.numel() - 1) // sum(self.layer.weight.shape)),)

    def grid(self, multiple: int) -> list[Ranks]:
        """Return the ranks that a budget chooses among: up to half of the largest, since each takes long to find."""
        return [(rank,) for rank in spread(max(1, self.full[0] // 2), multiple)]

    def loss(self, ranks: Ranks) -> float:
        """Return what is lost at a rank."""
        return self._at(ranks)[1]

    def shapes(self, ranks: Ranks) -> Shapes:
        """Return the four convolutions' shapes."""
        return canonical_shapes(self.layer, ranks[0])

    def chain(self, ranks: Ranks) -> ConvChain:
        """Return the layer at a rank."""
        return canonical_chain(self.layer, self._at(ranks)[0])

    def _at(self, ranks: Ranks) -> tuple[Canonical, float]:
        """Return the vectors at a rank, and what is lost there."""
        if ranks not in self._found:
            found = canonical(self.layer.weight.detach().cpu(), ranks[0], self.seed)
            self._found[ranks] = self._as_is(found) if self.plain else self._fitted(found)
        return self._found[ranks]

    def _as_is(self, found: Canonical) -> tuple[Canonical, float]:
        return found, self.lost(found.up @ _patterns(found))

    def _fitted(self, found: Canonical) -> tuple[Canonical, float]:
        up, projected, products = refit(self, _patterns(found), 1, found.up)
        down, column, row = found.down.T, found.column.T, found.row.T
        fitted, down, column, row = balanced([up, down, column, row])
        found = replace(found, up=fitted, down=down.T, column=column.T, row=row.T)
        return found, self.lost_by(up, projected, products)


def _patterns(found: Canonical) -> torch.Tensor:
    """Return what each product looks for in a patch, `(rank, inputs · height · width)`."""
    return torch.einsum("ri,rh,rw->rihw", found.down, found.column, found.row).flatten(1)
