"""Low-rank layers: a linear layer as two thin ones, a convolution as a chain of small ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from hfcompress.modeling.linear import channels_in, channels_out, is_conv1d_of_gpt2

if TYPE_CHECKING:
    from torch import Tensor


class LowRankLinear(nn.Module):
    """Computes `up(down(x))`: the work and the parameters of `rank · (inputs + outputs)`.

    Args:
        in_features: Inputs.
        out_features: Outputs.
        rank: What is between the two.
        bias: Whether there is a bias.
        transposed: Whether it stands in the place of GPT-2's `Conv1D`, which `dense` then gives back.
        **place: `device` and `dtype`.
    """

    def __init__(
        self, in_features: int, out_features: int, rank: int, bias: bool = True, transposed: bool = False, **place: Any
    ) -> None:
        super().__init__()
        self.down = nn.Linear(in_features, rank, bias=False, **place)
        self.up = nn.Linear(rank, out_features, bias=bias, **place)
        self.transposed = transposed

    @property
    def in_features(self) -> int:
        """How many inputs it has."""
        return self.down.in_features

    @property
    def out_features(self) -> int:
        """How many outputs it has."""
        return self.up.out_features

    @property
    def rank(self) -> int:
        """How wide it is between its two layers."""
        return self.down.out_features

    @property
    def weight(self) -> Tensor:
        """The matrix that it stands for, computed anew, `(outputs, inputs)`; of `Conv1D` `(inputs, outputs)`."""
        product = self.up.weight @ self.down.weight
        return product.T if self.transposed else product

    @property
    def bias(self) -> nn.Parameter | None:
        """The bias, `(outputs,)`."""
        return self.up.bias

    def forward(self, values: Tensor) -> Tensor:
        """Return `(…, outputs)` for `(…, inputs)`."""
        result: Tensor = self.up(self.down(values))
        return result

    @torch.no_grad()
    def dense(self) -> nn.Module:
        """Return the one layer that computes the same."""
        weight = (self.up.weight.double() @ self.down.weight.double()).to(self.up.weight.dtype)
        layer: nn.Module
        if self.transposed:
            layer, weight = Conv1D(self.out_features, self.in_features), weight.T
        else:
            layer = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        layer.weight = nn.Parameter(weight.contiguous())
        if self.bias is not None:
            layer.bias = nn.Parameter(self.bias.detach().clone())
        return layer.train(self.training)

    def extra_repr(self) -> str:
        """Say its rank where the module is printed."""
        return f"rank={self.rank}"


class ConvChain(nn.Sequential):
    """Several convolutions, one after another, in the place of one.

    Args:
        *layers: The convolutions; the last one has the bias.
    """

    def __init__(self, *layers: nn.Conv2d) -> None:
        super().__init__(*layers)

    @property
    def in_channels(self) -> int:
        """How many channels it reads."""
        return self._at(0).in_channels

    @property
    def out_channels(self) -> int:
        """How many channels it gives."""
        return self._at(-1).out_channels

    @property
    def weight(self) -> Tensor:
        """The last layer's weight, for those who ask for its type."""
        return self._at(-1).weight

    @property
    def bias(self) -> nn.Parameter | None:
        """The bias, `(channels,)`."""
        bias: nn.Parameter | None = self._at(-1).bias  # type: ignore[assignment]
        return bias

    def _at(self, place: int) -> nn.Conv2d:
        layer: nn.Conv2d = self[place]  # type: ignore[assignment]
        return layer

    def shapes(self) -> list[list[int]]:
        """Return each convolution's outputs, inputs of a group, height, width, strides, paddings, dilations, groups."""
        return [_shape(self._at(place)) for place in range(len(self))]


def _shape(layer: nn.Conv2d) -> list[int]:
    padding = layer.padding if isinstance(layer.padding, tuple) else (0, 0)
    return [int(n) for n in (*layer.weight.shape, *layer.stride, *padding, *layer.dilation, layer.groups)]


def chain_of(shapes: Sequence[Sequence[int]], bias: bool, **place: Any) -> ConvChain:
    """Return a chain of convolutions as `ConvChain.shapes` says, its weights not set.

    Args:
        shapes: Of each convolution.
        bias: Whether the last one has a bias.
        **place: `device` and `dtype`.

    Raises:
        ValueError: Those are no convolutions, or one does not read what the last one gives.
    """
    layers: list[nn.Conv2d] = []
    for outputs, inputs, height, width, *rest, groups in shapes:
        if len(rest) != 6 or min(outputs, inputs, height, width, groups) < 1 or min(rest) < 0:
            raise ValueError("that is no convolution")
        if layers and layers[-1].out_channels != inputs * groups:
            raise ValueError("a convolution does not read what the one before gives")
        stride, padding, dilation = zip(rest[::2], rest[1::2], strict=True)
        has_bias = bias and len(layers) == len(shapes) - 1
        layers.append(
            nn.Conv2d(inputs * groups, outputs, (height, width), stride, padding, dilation, groups, has_bias, **place)
        )
    if not layers:
        raise ValueError("there is no convolution")
    return ConvChain(*layers)


LOW_RANK = (LowRankLinear, ConvChain)
"""Layers that stand in the place of one and are several."""


def reader_name(name: str, module: nn.Module) -> str:
    """Return the name of the layer that reads a layer's inputs: of a low-rank one its first."""
    first = {LowRankLinear: "down", ConvChain: "0"}.get(type(module))
    return name if first is None else f"{name}.{first}"


def writer_name(name: str, module: nn.Module) -> str:
    """Return the name of the layer that gives a layer's outputs: of a low-rank one its last."""
    if isinstance(module, ConvChain):
        return f"{name}.{len(module) - 1}"
    return f"{name}.up" if isinstance(module, LowRankLinear) else name


def whole_name(model: nn.Module, name: str) -> str:
    """Return the name of the low-rank layer that a layer is a part of; its own name where it is none's."""
    outer = name.rpartition(".")[0]
    return outer if outer and isinstance(model.get_submodule(outer), LOW_RANK) else name


def low_rank_like(module: nn.Module, rank: int, outputs: int | None = None, inputs: int | None = None) -> LowRankLinear:
    """Return a low-rank layer of the type and in the place of a linear one, its weights not set.

    Args:
        module: `nn.Linear`, GPT-2's `Conv1D`, or a low-rank layer.
        rank: The rank.
        outputs: How many outputs; those of the module by default.
        inputs: How many inputs; those of the module by default.

    Raises:
        ValueError: The module is none of these.
    """
    if not isinstance(module, nn.Linear | LowRankLinear) and not is_conv1d_of_gpt2(module):
        raise ValueError(f"{type(module).__name__} is no linear layer")
    one: Tensor = next(module.parameters())
    layer = LowRankLinear(
        inputs or channels_in(module),
        outputs or channels_out(module),
        rank,
        module.bias is not None,
        is_conv1d_of_gpt2(module) or getattr(module, "transposed", False),
        device=one.device,
        dtype=one.dtype,
    )
    return layer.train(module.training)
