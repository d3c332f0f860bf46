"""The `spatial` step: convolutions as columns, then rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hfcompress.factorization.chains import Shapes, spatial_chain, spatial_shapes
from hfcompress.factorization.convolutions import ConvOptions, factorize_convolutions, predict_convolutions
from hfcompress.factorization.kernels import Kernel, Ranks, ThinKernel, directions, is_point, refit
from hfcompress.factorization.tensors import Spatial
from hfcompress.factorization.tensors import spatial as decompose
from hfcompress.registry import register

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from hfcompress.context import Context
    from hfcompress.factorization.patches import Seen
    from hfcompress.modeling.low_rank import ConvChain


@dataclass
class SpatialConfig(ConvOptions):
    """Options of `spatial`."""


def predict_spatial(model: PreTrainedModel, config: SpatialConfig, context: Context) -> PretrainedConfig:
    """Return the config of the model that `spatial` would make; see `predict_convolutions`."""
    return predict_convolutions(model, config, context, partial(_kernel, plain=config.plain))


@register("factorization", "spatial", SpatialConfig, predict=predict_spatial)
def spatial(model: PreTrainedModel, config: SpatialConfig, context: Context) -> PreTrainedModel:
    """Replace convolutions by columns `k × 1`, then rows `1 × k`; 1 × 1 ones as `channel` does.

    `W_oihw ≈ Σ_r row_orw column_rih` (Jaderberg et al. 2014, "Speeding up Convolutional Neural Networks with Low Rank
    Expansions", arXiv 1405.3866, their second scheme). The columns are those that the outputs depend on most, the rows
    a regression of the outputs on what the columns give; `plain`: singular vectors of the kernel.

    Args:
        model: The model; changed in place.
        config: Which convolutions, their ranks, and on how many images.
        context: Gives the calibration rows; their labels are not used.

    Raises:
        RequestError: There are no convolutions, the filters match none, or the budget cannot be met.
        DataError: There are too few rows.
        ModelError: Weights, activations or gradients are NaN or infinite; the layer is named.
    """
    return factorize_convolutions(model, config, context, partial(_kernel, plain=config.plain))


def _kernel(layer: nn.Conv2d, seen: Seen, plain: bool) -> Kernel:
    return ThinKernel(layer, seen, plain) if is_point(layer) else SpatialKernel(layer, seen, plain)


class SpatialKernel(Kernel):
    """A kernel as columns, then rows.

    Args:
        layer: The convolution.
        seen: What was seen of it.
        plain: Stay nearest to the weights, not to the outputs.
    """

    def __init__(self, layer: nn.Conv2d, seen: Seen, plain: bool) -> None:
        super().__init__(layer, seen)
        self.plain = plain
        self._found: dict[Ranks, tuple[Spatial, float]] = {}

    @property
    def full(self) -> Ranks:
        """The rank above which nothing is won."""
        outputs, inputs, height, width = self.layer.weight.shape
        return (min(inputs * height, outputs * width),)

    def loss(self, ranks: Ranks) -> float:
        """Return what is lost at a rank."""
        return self._at(ranks)[1]

    def shapes(self, ranks: Ranks) -> Shapes:
        """Return the two convolutions' shapes."""
        return spatial_shapes(self.layer, ranks[0])

    def chain(self, ranks: Ranks) -> ConvChain:
        """Return the layer at a rank."""
        return spatial_chain(self.layer, self._at(ranks)[0])

    @cached_property
    def _columns(self) -> Tensor:
        """The columns that matter most first, `(full rank, inputs · height)`."""
        weight = self.matrix.view(len(self.matrix), -1, self.layer.kernel_size[1])
        return directions(weight, self.seen.covariance, self.seen.gradient)

    def _at(self, ranks: Ranks) -> tuple[Spatial, float]:
        """Return columns and rows at a rank, and what is lost there."""
        if ranks not in self._found:
            self._found[ranks] = self._nearest(ranks[0]) if self.plain else self._fitted(ranks[0])
        return self._found[ranks]

    def _nearest(self, rank: int) -> tuple[Spatial, float]:
        found = decompose(self.layer.weight.detach().cpu(), rank)
        product = torch.einsum("orw,rih->oihw", found.row, found.column)
        return found, self.lost(product.flatten(1))

    def _fitted(self, rank: int) -> tuple[Spatial, float]:
        width, columns = self.layer.kernel_size[1], self._columns[:rank]
        weight = self.matrix.view(len(self.matrix), -1, width)
        nearest = torch.einsum("ont,rn->ort", weight, columns).flatten(1)
        row, projected, products = refit(self, columns, width, nearest)
        found = Spatial(columns.unflatten(1, (-1, self.layer.kernel_size[0])), row.unflatten(1, (rank, width)))
        return found, self.lost_by(row, projected, products)
