"""What is told of one linear layer or convolution, whatever class it is of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

from torch import nn
from transformers.pytorch_utils import Conv1D

if TYPE_CHECKING:
    from torch import Tensor

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
LINEAR = (nn.Linear, Conv1D, *CONVOLUTIONS)
"""All of them; `Conv1D` is GPT-2's linear layer."""


def weight_of(module: nn.Module) -> Tensor:
    """Return a module's weight, for the type checker."""
    weight: Tensor = module.weight  # type: ignore[assignment]
    return weight


def float_weight(module: nn.Module) -> Tensor:
    """Return a layer's weight; where bitsandbytes has quantized it, the numbers that it stands for."""
    weight: Any = module.weight
    if weight.is_floating_point():
        return weight_of(module)
    from bitsandbytes.functional import dequantize_4bit, int8_vectorwise_dequant

    values: Tensor
    if getattr(weight, "quant_state", None) is not None:
        values = dequantize_4bit(weight.data, weight.quant_state)
    else:
        state: Any = module.state
        values = int8_vectorwise_dequant(weight.data, weight.SCB if weight.SCB is not None else state.SCB)
    return values


def is_convolution(module: nn.Module) -> TypeGuard[nn.Conv1d | nn.Conv2d]:
    """Say whether a layer's channels stand behind the batch, `(batch, channels, …)`, and not last."""
    return isinstance(module, CONVOLUTIONS)


def is_conv1d_of_gpt2(module: nn.Module) -> bool:
    """Say whether a layer is the linear layer of GPT-2, which holds its weight as `(in, out)`."""
    return isinstance(module, Conv1D)


def channels_in(module: nn.Module) -> int:
    """Return how many channels a linear layer or convolution reads."""
    if is_conv1d_of_gpt2(module):
        return weight_of(module).shape[0]
    width = getattr(module, "in_features", None) or getattr(module, "in_channels", None)
    return int(width)  # type: ignore[arg-type]


def channels_out(module: nn.Module) -> int:
    """Return how many channels a linear layer or convolution gives."""
    if is_conv1d_of_gpt2(module):
        return weight_of(module).shape[1]
    width = getattr(module, "out_features", None) or getattr(module, "out_channels", None) or weight_of(module).shape[0]
    return int(width)


def fan_in(module: nn.Module) -> int:
    """Return by how many weights a layer gives each of its outputs."""
    return weight_of(module).numel() // channels_out(module)


def fan_out(module: nn.Module) -> int:
    """Return by how many weights a layer reads each of its inputs."""
    return weight_of(module).numel() // channels_in(module)


def matrix(module: nn.Module) -> Tensor:
    """Return a view of a layer's weight as `(outputs, inputs)`.

    A convolution is a matrix on patches, `channels · height · width` inputs each, of the channels of one group.
    """
    weight = weight_of(module).detach()
    return weight.T if is_conv1d_of_gpt2(module) else weight.flatten(1)


def in_shape_of_weight(module: nn.Module, values: Tensor) -> Tensor:
    """Return values `(outputs, inputs)`, one for each number of a layer's `matrix`, in the shape of its weight."""
    return values.T if is_conv1d_of_gpt2(module) else values.view(weight_of(module).shape)


def rows_of(module: nn.Module) -> Tensor:
    """Return a view of a layer's weight as rows by output, `(groups, outputs, inputs)`; without groups there is one."""
    return matrix(module).unflatten(0, (getattr(module, "groups", 1), -1))
