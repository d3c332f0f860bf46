"""Chains of small convolutions in the place of one, with the weights that a decomposition gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hfcompress.factorization.tensors import Canonical, Spatial, Tucker
from hfcompress.modeling.low_rank import ConvChain, chain_of

if TYPE_CHECKING:
    from hfcompress.modeling.factors import Factors

Shapes = list[list[int]]
"""Of each convolution what `ConvChain.shapes` says."""

_POINT = [1, 1, 1, 1, 0, 0, 1, 1]
"""A convolution at one place: height, width, strides, paddings, dilations."""


def tucker_chain(layer: nn.Conv2d, found: Tucker) -> ConvChain:
    """Return 1 × 1, the core, 1 × 1; where a rank is full the 1 × 1 on its side goes into the core."""
    down, core, up = found.down, found.core, found.up
    weights, shapes = [down[..., None, None], core, up[..., None, None]], tucker_shapes(layer, *core.shape[:2])
    if core.shape[1] == layer.in_channels:
        weights = [torch.einsum("pqhw,qi->pihw", core, down), *weights[2:]]
    if core.shape[0] == layer.out_channels:
        weights = [*weights[:-2], torch.einsum("op,pqhw->oqhw", up, weights[-2])]
    return _filled(layer, shapes, weights)


def tucker_shapes(layer: nn.Conv2d, inner_outputs: int, inner_inputs: int) -> Shapes:
    """Return what `tucker_chain` is made of."""
    return [
        *([[inner_inputs, layer.in_channels, *_POINT, 1]] if inner_inputs < layer.in_channels else []),
        [inner_outputs, inner_inputs, *_window(layer), 1],
        *([[layer.out_channels, inner_outputs, *_POINT, 1]] if inner_outputs < layer.out_channels else []),
    ]


def canonical_chain(layer: nn.Conv2d, found: Canonical) -> ConvChain:
    """Return 1 × 1, a column and a row channel by channel, 1 × 1."""
    weights = [found.down[..., None, None], found.column[:, None, :, None], found.row[:, None, None, :]]
    return _filled(layer, canonical_shapes(layer, len(found.down)), [*weights, found.up[..., None, None]])


def canonical_shapes(layer: nn.Conv2d, rank: int) -> Shapes:
    """Return what `canonical_chain` is made of."""
    column, row = _sides(layer)
    return [
        [rank, layer.in_channels, *_POINT, 1],
        [rank, 1, *column, rank],
        [rank, 1, *row, rank],
        [layer.out_channels, rank, *_POINT, 1],
    ]


def spatial_chain(layer: nn.Conv2d, found: Spatial) -> ConvChain:
    """Return columns, then rows."""
    return _filled(layer, spatial_shapes(layer, len(found.column)), [found.column[..., None], found.row[:, :, None]])


def spatial_shapes(layer: nn.Conv2d, rank: int) -> Shapes:
    """Return what `spatial_chain` is made of."""
    column, row = _sides(layer)
    return [[rank, layer.in_channels, *column, 1], [layer.out_channels, rank, *row, 1]]


def channel_chain(layer: nn.Conv2d, found: Factors) -> ConvChain:
    """Return the kernel with fewer outputs, then 1 × 1; its patches are the inputs of the factors."""
    rank = len(found.down)
    weights = [found.down.view(rank, layer.in_channels, *layer.kernel_size), found.up[..., None, None]]
    chain = _filled(layer, channel_shapes(layer, rank), weights)
    if found.shift is not None and chain.bias is not None:
        with torch.no_grad():
            chain.bias.add_(found.shift.to(chain.bias))
    return chain


def channel_shapes(layer: nn.Conv2d, rank: int) -> Shapes:
    """Return what `channel_chain` is made of."""
    return [[rank, layer.in_channels, *_window(layer), 1], [layer.out_channels, rank, *_POINT, 1]]


def dense_shapes(layer: nn.Conv2d) -> Shapes:
    """Return the convolution as a chain of one."""
    return [[layer.out_channels, layer.in_channels, *_window(layer), 1]]


def outputs_at(shapes: Shapes, size: tuple[int, int]) -> list[tuple[int, int]]:
    """Return height and width of what each convolution of a chain gives.

    Args:
        shapes: The chain's.
        size: Height and width of what it reads.
    """
    found = []
    for _, _, *window, _ in shapes:
        sides = zip(size, *zip(*[iter(window)] * 2, strict=True), strict=True)
        size = tuple((n + 2 * pad - gap * (taps - 1) - 1) // step + 1 for n, taps, step, pad, gap in sides)
        found.append(size)
    return found


def weights_of(shapes: Shapes) -> int:
    """Return how many weights a chain has."""
    return sum(outputs * inputs * height * width for outputs, inputs, height, width, *_ in shapes)


def macs_of(shapes: Shapes, size: tuple[int, int]) -> int:
    """Return how often a chain multiplies for one image.

    Args:
        shapes: The chain's.
        size: Height and width of what it reads.
    """
    given = outputs_at(shapes, size)
    return sum(weights_of([one]) * height * width for one, (height, width) in zip(shapes, given, strict=True))


def _window(layer: nn.Conv2d) -> list[int]:
    """Return a convolution's height, width, strides, paddings and dilations."""
    return [int(n) for n in (*layer.kernel_size, *layer.stride, *padding_of(layer), *layer.dilation)]


def _sides(layer: nn.Conv2d) -> tuple[list[int], list[int]]:
    """Return the same for the column and for the row of a kernel."""
    (height, width), (down, across), (top, left) = layer.kernel_size, layer.stride, padding_of(layer)
    first, second = layer.dilation
    return [height, 1, down, 1, top, 0, first, 1], [1, width, 1, across, 0, left, 1, second]


def padding_of(layer: nn.Conv2d) -> tuple[int, int]:
    """Return how far a convolution reads beyond each edge, `(height, width)`; "same" is that of odd kernels."""
    if layer.padding == "same":
        first, second = (d * (k - 1) // 2 for d, k in zip(layer.dilation, layer.kernel_size, strict=True))
        return first, second
    return (0, 0) if isinstance(layer.padding, str) else (int(layer.padding[0]), int(layer.padding[1]))


@torch.no_grad()
def _filled(layer: nn.Conv2d, shapes: list[list[int]], weights: list[Tensor]) -> ConvChain:
    """Return a chain with these weights, and the layer's own bias."""
    place = {"device": layer.weight.device, "dtype": layer.weight.dtype}
    chain = chain_of(shapes, layer.bias is not None, **place)
    for one, weight in zip(chain, weights, strict=True):
        one.weight.copy_(weight)  # type: ignore[operator]
    if layer.bias is not None and chain.bias is not None:
        chain.bias.copy_(layer.bias)
    return chain.train(layer.training)
