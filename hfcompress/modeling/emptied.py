"""What stands where all heads or neurons of a layer were removed: zeros, and the bias that is left of the last layer.

A linear layer of width 0 would run in few places. Here the layers before the emptied place give zeros of one unit's
width, so that any attention runs on, and what follows does not look at them: a graph's optimizer drops the branch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from hfcompress.modeling.linear import channels_out, is_convolution, weight_of

if TYPE_CHECKING:
    from torch import Tensor


class Emptied(nn.Module):
    """A layer without a weight; the empty one is there for transformers, which asks for its type and starts it.

    Args:
        width: The channels that it gives.
        channels_first: Whether they stand behind the batch, as a convolution's, and not last.
        dtype: Type of the weight that was there.
    """

    weight: Tensor

    def __init__(self, width: int, channels_first: bool, dtype: torch.dtype) -> None:
        super().__init__()
        self.width, self.channels_first = width, channels_first
        self.register_buffer("weight", torch.empty(0, dtype=dtype), persistent=False)

    def extra_repr(self) -> str:
        """Say its width where the module is printed."""
        return f"width={self.width}"


class Zeros(Emptied):
    """Gives zeros of one unit's width, whatever it reads."""

    def forward(self, values: Tensor) -> Tensor:
        """Return zeros `(…, width)`, or `(batch, width, …)`, for values of as many positions."""
        if self.channels_first:
            return values.new_zeros(values.shape[0], self.width, *values.shape[2:])
        return values.new_zeros(*values.shape[:-1], self.width)


class Constant(Emptied):
    """Gives its bias, whatever it reads.

    Args:
        width: The channels that it gives.
        channels_first: Whether they stand behind the batch, as a convolution's, and not last.
        dtype: Type of the weight that was there.
        bias: What it gives, `(width,)`; None for zeros.
    """

    bias: nn.Parameter | None

    def __init__(self, width: int, channels_first: bool, dtype: torch.dtype, bias: nn.Parameter | None) -> None:
        super().__init__(width, channels_first, dtype)
        self.register_parameter("bias", bias)

    def narrow(self, index: Tensor) -> None:
        """Keep some of the channels that it gives, `(channels,)`."""
        self.width = len(index)
        if self.bias is not None:
            narrow = self.bias.detach()[index.to(self.bias.device)]
            self.bias = nn.Parameter(narrow, self.bias.requires_grad)

    def forward(self, values: Tensor) -> Tensor:
        """Return the bias, of size 1 in all but its own axis; in training at every position, for the dropout."""
        bias: Tensor = values.new_zeros(self.width) if self.bias is None else self.bias
        axis = 1 if self.channels_first else values.dim() - 1
        shape = [1] * values.dim()
        shape[axis] = self.width
        bias = bias.view(shape)
        if not self.training:
            return bias
        full = list(values.shape)
        full[axis] = self.width
        return bias.expand(full)


def zeros_for(module: nn.Module, width: int) -> Zeros:
    """Return what stands in for a layer whose outputs are all removed."""
    return Zeros(width, is_convolution(module), weight_of(module).dtype)


def constant_for(module: nn.Module) -> Constant:
    """Return what stands in for a layer whose inputs are all removed: its bias."""
    bias: nn.Parameter | None = module.bias  # type: ignore[assignment]
    return Constant(channels_out(module), is_convolution(module), weight_of(module).dtype, bias)
