"""What bitsandbytes makes of layers of four bits on different CPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hfcompress.modeling.linear import channels_in, channels_out

if TYPE_CHECKING:
    from torch import nn

OUTPUTS, INPUTS = 32, 64
"""Layers of four bits have multiples of these."""


def takes_four_bits(module: nn.Module) -> bool:
    """Say whether a linear layer gives the same on any CPU once bitsandbytes has packed it into four bits.

    Measured with 0.50.0, whose scales are those of 64 weights one after another: CPUs with AVX-512 read rows wrongly
    whose length is a multiple of 16 and not of 64; those with AVX512-BF16 fail unless outputs are a multiple of 32.

    Args:
        module: Not packed yet.
    """
    return channels_in(module) % INPUTS == 0 and channels_out(module) % OUTPUTS == 0


def compute_as_stored(model: nn.Module) -> None:
    """Keep bitsandbytes from bringing four-bit weights into another order when they first run.

    That rounds their scales to bfloat16: the model would answer otherwise than on other machines, and what is saved
    afterwards would not be what was loaded.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            layer: Any = module
            layer.support_avx512bf16_for_cpu = False
