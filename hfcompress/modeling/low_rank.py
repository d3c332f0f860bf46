"""Low-rank layers: a linear layer as two thin ones, a convolution as a chain of small ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from hfcompress.modeling.linear import channels_in, channels_out, float_weight, is_conv1d_of_gpt2

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
        product = float_weight(self.up) @ float_weight(self.down)
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
        """The last layer's weight, for those who ask for its type; no parameter, since it is that layer's alone."""
        return self._at(-1).weight.detach()

    @property
    def bias(self) -> nn.Parameter | None:
        """The bias, `(channels,)`."""
        bias: nn.Parameter | None = self._at(-1).bias  # type: ignore[assignment]
        return bias

    @property
    def kernel_size(self) -> tuple[int, int]:
        """How many places it reads at once, `(height, width)`, of the one convolution that it stands for."""
        return self._window()[0]

    @property
    def stride(self) -> tuple[int, int]:
        """How far the places are apart that it gives, `(height, width)`."""
        return self._window()[1]

    @property
    def padding(self) -> tuple[int, int]:
        """How far it reads beyond each edge, `(height, width)`."""
        return self._window()[2]

    @property
    def dilation(self) -> tuple[int, int]:
        """How far the places are apart that it reads, `(height, width)`."""
        return self._window()[3]

    def _window(self) -> tuple[tuple[int, int], ...]:
        """Return kernel size, stride, padding and dilation of the one convolution, each `(height, width)`.

        Raises:
            ValueError: There is no such convolution.
        """
        sides = [_side([self._at(place) for place in range(len(self))], axis) for axis in (0, 1)]
        return tuple(zip(*sides, strict=True))

    @torch.no_grad()
    def dense(self) -> nn.Conv2d:
        """Return the one convolution that computes the same.

        Raises:
            ValueError: There is none: two of them reach along the same axis, or padding stands between them.
        """
        kernel, stride, padding, dilation = self._window()
        weight = _ungrouped(self._at(0))
        for place in range(1, len(self)):
            both = torch.einsum("omab,micd->oiacbd", _ungrouped(self._at(place)), weight)
            weight = both.flatten(4).flatten(2, 3)
        layer = nn.Conv2d(
            self.in_channels, self.out_channels, kernel, stride, padding, dilation, bias=False, device="meta"
        )
        layer.weight = nn.Parameter(weight.to(self.weight.dtype))
        if self.bias is not None:
            layer.bias = nn.Parameter(self.bias.detach().clone())
        return layer.train(self.training)

    def _at(self, place: int) -> nn.Conv2d:
        layer: nn.Conv2d = self[place]  # type: ignore[assignment]
        return layer

    def shapes(self) -> list[list[int]]:
        """Return each convolution's outputs, inputs of a group, height, width, strides, paddings, dilations, groups."""
        return [_shape(self._at(place)) for place in range(len(self))]


def _side(layers: Sequence[nn.Conv2d], axis: int) -> tuple[int, int, int, int]:
    """Return kernel size, stride, padding and dilation along one axis of convolutions one after another.

    The second one's outputs at `n` are `Σ_j w_j y[n s₂ + j d₂ − p₂]`, with `y[m] = Σ_i v_i x[m s₁ + i d₁ − p₁]`:
    together they read `x[n s₁ s₂ + j d₂ s₁ + i d₁ − p₁ − p₂ s₁]`.

    Raises:
        ValueError: No one convolution does the same.
    """
    size, stride, padding, dilation = 1, 1, 0, 1
    for layer in layers:
        own_size, own_stride, own_dilation = (int(x[axis]) for x in (layer.kernel_size, layer.stride, layer.dilation))
        own_padding = int(layer.padding[axis])
        if size > 1 and own_size > 1:
            raise ValueError("two of the convolutions reach along the same axis")
        if own_padding and (size, stride, padding) != (1, 1, 0):
            raise ValueError("padding stands between the convolutions")
        if own_size > 1:
            dilation = own_dilation * stride
        size, padding, stride = size * own_size, padding + own_padding * stride, stride * own_stride
    return size, stride, padding, dilation


def _ungrouped(layer: nn.Conv2d) -> Tensor:
    """Return a convolution's weight as that of one without groups, `(outputs, inputs, height, width)`, in float64."""
    blocks = layer.weight.detach().double().unflatten(0, (layer.groups, -1))
    whole = blocks.new_zeros(layer.groups, blocks.shape[1], layer.groups, *blocks.shape[2:])
    places = torch.arange(layer.groups)
    whole[places, :, places] = blocks
    return whole.flatten(2, 3).flatten(0, 1)


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
