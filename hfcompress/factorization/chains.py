"""Chains of small convolutions in the place of one, with the weights that a decomposition gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hfcompress.factorization.tensors import Canonical, Spatial, Tucker
from hfcompress.modeling.low_rank import ConvChain, chain_of

if TYPE_CHECKING:
    from hfcompress.modeling.factors import Factors

_POINT = [1, 1, 1, 1, 0, 0, 1, 1]
"""A convolution at one place: height, width, strides, paddings, dilations."""


def tucker_chain(layer: nn.Conv2d, found: Tucker) -> ConvChain:
    """Return 1 × 1, the core, 1 × 1."""
    inner_outputs, inner_inputs = found.core.shape[:2]
    shapes = [
        [inner_inputs, layer.in_channels, *_POINT, 1],
        [inner_outputs, inner_inputs, *_window(layer), 1],
        [layer.out_channels, inner_outputs, *_POINT, 1],
    ]
    return _filled(layer, shapes, [found.down[..., None, None], found.core, found.up[..., None, None]])


def canonical_chain(layer: nn.Conv2d, found: Canonical) -> ConvChain:
    """Return 1 × 1, a column and a row channel by channel, 1 × 1."""
    rank = len(found.down)
    column, row = _sides(layer)
    shapes = [
        [rank, layer.in_channels, *_POINT, 1],
        [rank, 1, *column, rank],
        [rank, 1, *row, rank],
        [layer.out_channels, rank, *_POINT, 1],
    ]
    weights = [found.down[..., None, None], found.column[:, None, :, None], found.row[:, None, None, :]]
    return _filled(layer, shapes, [*weights, found.up[..., None, None]])


def spatial_chain(layer: nn.Conv2d, found: Spatial) -> ConvChain:
    """Return columns, then rows."""
    rank = len(found.column)
    column, row = _sides(layer)
    shapes = [[rank, layer.in_channels, *column, 1], [layer.out_channels, rank, *row, 1]]
    return _filled(layer, shapes, [found.column[..., None], found.row[:, :, None]])


def channel_chain(layer: nn.Conv2d, found: Factors) -> ConvChain:
    """Return the kernel with fewer outputs, then 1 × 1; its patches are the inputs of the factors."""
    rank = len(found.down)
    shapes = [[rank, layer.in_channels, *_window(layer), 1], [layer.out_channels, rank, *_POINT, 1]]
    weights = [found.down.view(rank, layer.in_channels, *layer.kernel_size), found.up[..., None, None]]
    chain = _filled(layer, shapes, weights)
    if found.shift is not None and chain.bias is not None:
        with torch.no_grad():
            chain.bias.add_(found.shift.to(chain.bias))
    return chain


def _window(layer: nn.Conv2d) -> list[int]:
    """Return a convolution's height, width, strides, paddings and dilations."""
    return [int(n) for n in (*layer.kernel_size, *layer.stride, *_padding(layer), *layer.dilation)]


def _sides(layer: nn.Conv2d) -> tuple[list[int], list[int]]:
    """Return the same for the column and for the row of a kernel."""
    (height, width), (down, across), (top, left) = layer.kernel_size, layer.stride, _padding(layer)
    first, second = layer.dilation
    return [height, 1, down, 1, top, 0, first, 1], [1, width, 1, across, 0, left, 1, second]


def _padding(layer: nn.Conv2d) -> tuple[int, int]:
    """Return how far a convolution reads beyond each edge."""
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
