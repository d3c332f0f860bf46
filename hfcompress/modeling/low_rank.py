"""Low-rank layers: a linear layer as two thin ones."""

from __future__ import annotations

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


def reader_name(name: str, module: nn.Module) -> str:
    """Return the name of the layer that reads a linear layer's inputs: of a low-rank one its first."""
    return f"{name}.down" if isinstance(module, LowRankLinear) else name


def writer_name(name: str, module: nn.Module) -> str:
    """Return the name of the layer that gives a linear layer's outputs: of a low-rank one its second."""
    return f"{name}.up" if isinstance(module, LowRankLinear) else name


def whole_name(model: nn.Module, name: str) -> str:
    """Return the name of the low-rank layer that a layer is a half of; its own name where it is none's."""
    outer = name.rpartition(".")[0]
    return outer if outer and isinstance(model.get_submodule(outer), LowRankLinear) else name


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
