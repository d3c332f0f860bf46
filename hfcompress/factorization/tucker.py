"""The `tucker` step: convolutions between fewer channels, 1 × 1 on both sides."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hfcompress.factorization.chains import Shapes, tucker_chain, tucker_shapes
from hfcompress.factorization.conv_ranks import share
from hfcompress.factorization.convolutions import ConvOptions, factorize_convolutions, predict_convolutions
from hfcompress.factorization.decompose import Decomposition, for_outputs
from hfcompress.factorization.kernels import (
    Kernel,
    Ranks,
    ThinKernel,
    directions,
    is_point,
    multiples,
    refit,
    spread,
)
from hfcompress.factorization.tensors import Tucker
from hfcompress.factorization.tensors import tucker as decompose
from hfcompress.registry import register

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from hfcompress.context import Context
    from hfcompress.factorization.patches import Seen
    from hfcompress.modeling.low_rank import ConvChain


@dataclass
class TuckerConfig(ConvOptions):
    """Options of `tucker`."""


def predict_tucker(model: PreTrainedModel, config: TuckerConfig, context: Context) -> PretrainedConfig:
    """Return the config of the model that `tucker` would make; see `predict_convolutions`."""
    return predict_convolutions(model, config, context, partial(_kernel, plain=config.plain))


@register("factorization", "tucker", TuckerConfig, predict=predict_tucker)
def tucker(model: PreTrainedModel, config: TuckerConfig, context: Context) -> PreTrainedModel:
    """Replace convolutions by ones between fewer channels, 1 × 1 on both sides; 1 × 1 ones as `channel` does.

    `W_oihw ≈ Σ_pq up_op core_pqhw down_qi` (Tucker-2: Kim et al. 2016, "Compression of Deep Convolutional Neural
    Networks for Fast and Low Power Mobile Applications", arXiv 1511.06530). The inner inputs are those that the outputs
    depend on most; core and `up` are the reduced-rank regression of the outputs on them: at each pair of ranks, what
    loses least given the inner inputs. `plain`: nearest to the kernel, by orthogonal iteration, and ranks that are the
    same share of outputs and inputs.

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
    if is_point(layer):
        return ThinKernel(layer, seen, plain)
    return PlainTuckerKernel(layer, seen) if plain else TuckerKernel(layer, seen)


class TuckerKernel(Kernel):
    """A kernel between fewer channels: ranks are inner outputs and inner inputs.

    Args:
        layer: The convolution.
        seen: What was seen of it.
    """

    def __init__(self, layer: nn.Conv2d, seen: Seen) -> None:
        super().__init__(layer, seen)
        self._by_inputs: dict[int, tuple[Decomposition, float]] = {}

    @property
    def full(self) -> Ranks:
        """As many as there are outputs and inputs, but no more than the other side can tell apart."""
        outputs, inputs = self.layer.out_channels, self.layer.in_channels
        return min(outputs, inputs * self.taps), min(inputs, outputs * self.taps)

    def loss(self, ranks: Ranks) -> float:
        """Return what is lost at a pair of ranks."""
        found, before = self._between(ranks[1])
        return before + float(found.losses[min(ranks[0], len(found.losses) - 1)])

    def shapes(self, ranks: Ranks) -> Shapes:
        """Return the convolutions' shapes."""
        return tucker_shapes(self.layer, *ranks)

    def chain(self, ranks: Ranks) -> ConvChain:
        """Return the layer at a pair of ranks."""
        outputs, inputs = ranks
        found = self._between(inputs)[0].factors(outputs)
        core = found.down.unflatten(1, (inputs, *self.layer.kernel_size))
        return tucker_chain(self.layer, Tucker(self._inner[:inputs], core, found.up))

    def grid(self, multiple: int) -> list[Ranks]:
        """Return the pairs that a budget chooses among: each number of outputs with some numbers of inputs."""
        return [
            (outputs, inputs)
            for inputs in spread(self.full[1], multiple)
            for outputs in multiples(self.full[0], multiple)
            if outputs <= inputs * self.taps
        ]

    @property
    def taps(self) -> int:
        """Of how many places the kernel is."""
        height, width = self.layer.kernel_size
        return height * width

    @cached_property
    def _inner(self) -> Tensor:
        """The inner inputs that matter most first, `(inputs, inputs)`."""
        weight = self.matrix.view(len(self.matrix), -1, self.taps)
        return directions(weight, self.seen.covariance, self.seen.gradient)

    def _between(self, inputs: int) -> tuple[Decomposition, float]:
        """Return for some inner inputs the kernel at all numbers of outputs, and what is lost already."""
        if inputs not in self._by_inputs:
            inner = self._inner[:inputs]
            weight = self.matrix.view(len(self.matrix), -1, self.taps)
            nearest = torch.einsum("oit,qi->oqt", weight, inner).flatten(1)
            fitted, projected, products = refit(self, inner, self.taps, nearest)
            found = for_outputs(fitted, projected, None, self.seen.gradient)
            self._by_inputs[inputs] = found, self.lost_by(fitted, projected, products)
        return self._by_inputs[inputs]


class PlainTuckerKernel(TuckerKernel):
    """The same, nearest to the weights."""

    def __init__(self, layer: nn.Conv2d, seen: Seen) -> None:
        super().__init__(layer, seen)
        self._found: dict[Ranks, tuple[Tucker, float]] = {}

    def loss(self, ranks: Ranks) -> float:
        """Return what is lost at a pair of ranks."""
        return self._at(ranks)[1]

    def chain(self, ranks: Ranks) -> ConvChain:
        """Return the layer at a pair of ranks."""
        return tucker_chain(self.layer, self._at(ranks)[0])

    def grid(self, multiple: int) -> list[Ranks]:
        """Return the pairs that a budget chooses among: the same share of outputs and inputs."""
        return list(dict.fromkeys(share(self.full, outputs, multiple) for outputs in spread(self.full[0], multiple)))

    def _at(self, ranks: Ranks) -> tuple[Tucker, float]:
        if ranks not in self._found:
            found = decompose(self.layer.weight.detach().cpu(), *ranks)
            product = torch.einsum("op,pqhw,qi->oihw", found.up, found.core, found.down)
            self._found[ranks] = found, self.lost(product.flatten(1))
        return self._found[ranks]
