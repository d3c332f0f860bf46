"""Narrowing a layer in place: some of its outputs or inputs stay, with bias, statistics and counters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from hfcompress.modeling.linear import is_conv1d_of_gpt2, is_convolution, weight_of

if TYPE_CHECKING:
    from torch import Tensor


def keep_outputs(module: nn.Module, index: Tensor) -> None:
    """Keep some of the channels that a layer gives: of a linear layer, a convolution, an embedding, a norm.

    Args:
        module: Changed in place; its parameters are new.
        index: The channels that stay, `(channels,)`.
    """
    weight = weight_of(module)
    axis = _output_axis(module)
    before = weight.shape[axis]
    _replace(module, "weight", weight.index_select(axis, index.to(weight.device)))
    rest = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
    for name, tensor in rest.items():
        if name != "weight" and tensor.dim() == 1 and len(tensor) == before:
            _replace(module, name, tensor.index_select(0, index.to(tensor.device)))
    fit_sizes(module)


def keep_inputs(module: nn.Module, index: Tensor) -> None:
    """Keep some of the channels that a linear layer or a convolution reads.

    Args:
        module: Changed in place; its weight is new.
        index: The channels that stay, `(channels,)`, as many in each group of a grouped convolution.
    """
    weight = weight_of(module)
    index = index.to(weight.device)
    if is_conv1d_of_gpt2(module):
        narrow = weight.index_select(0, index)
    else:
        groups = int(getattr(module, "groups", 1))
        width = weight.shape[1]
        own = [index[(index >= start) & (index < start + width)] - start for start in range(0, groups * width, width)]
        narrow = torch.cat([part.index_select(1, i) for part, i in zip(weight.chunk(groups), own, strict=True)])
    _replace(module, "weight", narrow)
    fit_sizes(module)


def give_shape(module: nn.Module, shape: Sequence[int]) -> None:
    """Make a layer's weight as small as `shape`; what is left of it are its first numbers.

    Args:
        module: Changed in place, like its bias and statistics.
        shape: The new shape of its weight.

    Raises:
        ValueError: It does not fit into the shape that the weight has.
    """
    weight = weight_of(module)
    if len(shape) != weight.dim() or any(not 0 < new <= old for new, old in zip(shape, weight.shape, strict=True)):
        raise ValueError(f"{list(shape)} does not fit into {list(weight.shape)}")
    axis = _output_axis(module)
    if shape[axis] != weight.shape[axis]:
        keep_outputs(module, torch.arange(shape[axis], device="cpu"))
    narrow = weight_of(module)[tuple(slice(size) for size in shape)]
    _replace(module, "weight", narrow)
    fit_sizes(module)


def fit_sizes(module: nn.Module) -> None:
    """Make a layer's own counters say the shape that its weight has."""
    shape = tuple(weight_of(module).shape)
    if is_conv1d_of_gpt2(module):
        sizes = {"nx": shape[0], "nf": shape[1]}
    elif isinstance(module, nn.Embedding):
        sizes = {"num_embeddings": shape[0], "embedding_dim": shape[1]}
    elif is_convolution(module):
        sizes = _convolution_sizes(module, shape)
    elif isinstance(module, nn.Linear):
        sizes = {"out_features": shape[0], "in_features": shape[1]}
    else:
        sizes = {"num_features": shape[0]}
    for name, size in sizes.items():
        if hasattr(module, name):
            setattr(module, name, size)
    if hasattr(module, "normalized_shape"):
        module.normalized_shape = shape  # type: ignore[assignment]


def _convolution_sizes(module: nn.Conv1d | nn.Conv2d, shape: tuple[int, ...]) -> dict[str, int]:
    """Return a convolution's counters; a depthwise one has as many groups as channels that it reads."""
    groups = module.groups
    if groups > 1 and groups == module.in_channels:
        groups = shape[0] * module.in_channels // module.out_channels
    return {"out_channels": shape[0], "in_channels": shape[1] * groups, "groups": groups}


def _output_axis(module: nn.Module) -> int:
    return 1 if isinstance(module, nn.Embedding) or is_conv1d_of_gpt2(module) else 0


def _replace(module: nn.Module, name: str, tensor: Tensor) -> None:
    """Put a copy of a tensor in a parameter's or buffer's place.

    Its strides are those of a tensor that was loaded, also along axes of size 1: kernels are chosen by them.
    """
    old = getattr(module, name)
    tensor = torch.empty_like(tensor, memory_format=torch.contiguous_format, requires_grad=False).copy_(tensor.detach())
    setattr(module, name, nn.Parameter(tensor, old.requires_grad) if isinstance(old, nn.Parameter) else tensor)
