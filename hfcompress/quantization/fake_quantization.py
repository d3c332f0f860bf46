"""Rounding while training: numbers take the values that 8 bits have, gradients pass as if they did not."""

from __future__ import annotations

import torch
import torch.distributed
from torch import Tensor, nn

from hfcompress.quantization.rewriter import LARGEST, LARGEST_IN_PRODUCT

LEVELS = 255
"""Steps of activations: unsigned 8 bits."""
_TINY = float(torch.finfo(torch.float32).tiny)


def round_through(values: Tensor) -> Tensor:
    """Round to the nearest integer; the gradient is that of the identity (Bengio et al. 2013)."""
    return values + (values.round() - values).detach()


def round_weight(weight: Tensor, in_product: bool = True) -> Tensor:
    """Round a weight as the exported file has it: symmetric, a scale for each row of its first axis.

    `w ≈ s · round(w / s)`, `s = max |w| / 64`: integers that are multiplied span -64 … 64, and the products of a row
    then fit into what every CPU adds in (`quantize_dynamic` says why). Gradients pass straight through.

    Args:
        weight: `(outputs, …)`.
        in_product: Whether it is multiplied with integers; a table's rows span -127 … 127.
    """
    largest = LARGEST_IN_PRODUCT if in_product else LARGEST
    with torch.no_grad():
        peak = weight.flatten(1).abs().amax(dim=1).float()
        scale = torch.where(peak > 0, (peak / largest).clamp(min=_TINY), torch.ones_like(peak))
        scale = scale.view(-1, *(1,) * (weight.dim() - 1))
        rounded = (weight.float() / scale).round().clamp(-largest, largest) * scale
    return weight + (rounded.to(weight.dtype) - weight).detach()


class ActivationRange(nn.Module):
    """The range of an activation, and its rounding to unsigned 8 bits (Jacob et al. 2018, equation 1).

    `x ≈ s (q - z)`, `q = clamp(round(x / s) + z, 0, 255)`, `s = (high - low) / 255`. While it is observed, low and high
    are moving averages of the batches' limits. Learned, they are trained with everything else; gradients through the
    rounding are those of learned step sizes (Esser et al. 2020, equations 2 and 3), scaled down likewise by the root of
    how many numbers share the range.

    Args:
        learned: Whether gradients change it once it was observed.
        momentum: What the old average counts in the new one.
    """

    batches: Tensor

    def __init__(self, learned: bool, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.low = nn.Parameter(torch.zeros(()), requires_grad=learned)
        self.high = nn.Parameter(torch.zeros(()), requires_grad=learned)
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def observe(self, values: Tensor) -> None:
        """Take a batch's limits into account; a range always holds 0."""
        low, high = values.detach().float().amin().clamp(max=0), values.detach().float().amax().clamp(min=0)
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(low, torch.distributed.ReduceOp.MIN)
            torch.distributed.all_reduce(high, torch.distributed.ReduceOp.MAX)
        old = self.momentum if int(self.batches) else 0.0
        self.low.mul_(old).add_((1 - old) * low)
        self.high.mul_(old).add_((1 - old) * high)
        self.batches += 1

    def forward(self, values: Tensor, learn: bool = False) -> Tensor:
        """Return values after rounding; with `learn`, gradients flow into the range too."""
        low, high = self.low.clamp(max=0), self.high.clamp(min=0)
        if learn:
            share = 1 / (values.numel() * LEVELS) ** 0.5
            low, high = _scale_gradient(low, share), _scale_gradient(high, share)
        else:
            low, high = low.detach(), high.detach()
        step = ((high - low) / LEVELS).clamp(min=_TINY)
        zero = round_through(-low / step).clamp(0, LEVELS)
        near = (values.float() / step).clamp(-2 * LEVELS, 2 * LEVELS)  # a range of no width makes infinities of them
        codes = (round_through(near) + zero).clamp(0, LEVELS)
        return ((codes - zero) * step).to(values.dtype)


def _scale_gradient(value: Tensor, share: float) -> Tensor:
    return value * share + (value * (1 - share)).detach()
