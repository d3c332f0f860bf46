"""What can stand in the place of a layer: how each kind is written down in the manifest, and built again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from hfcompress.modeling.emptied import Constant, Zeros, constant_for, zeros_for
from hfcompress.modeling.linear import weight_of
from hfcompress.modeling.low_rank import ConvChain, LowRankLinear, chain_of, low_rank_like
from hfcompress.modeling.low_rank_embedding import LowRankEmbedding, low_rank_embedding_like
from hfcompress.modeling.resize import give_shape

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Kind:
    """One kind of layer.

    Args:
        what: What its value in the manifest is, for errors.
        fits: Says whether a value is that.
        build: Returns the layer that takes the place of a module; its weights are not set.
        value_of: Returns what is written down of a module; None where it is of another kind.
    """

    what: str
    fits: Callable[[Any], bool]
    build: Callable[[nn.Module, Any], nn.Module]
    value_of: Callable[[nn.Module], Any]


def entry_of(module: nn.Module) -> dict[str, Any]:
    """Return what the manifest says of a module."""
    found = ((name, kind.value_of(module)) for name, kind in reversed(KINDS.items()))
    return next({name: value} for name, value in found if value is not None)


def is_size(value: Any) -> bool:
    """Say whether a value of the manifest is a number of channels."""
    return type(value) is int and value > 0


def are_sizes(value: Any) -> bool:
    """Say whether a value of the manifest is a list of sizes."""
    return isinstance(value, list) and bool(value) and all(map(is_size, value))


def _are_convolutions(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, list) and len(one) == 11 and all(type(n) is int and n >= 0 for n in one) for one in value
    )


def _shape(module: nn.Module, shape: list[int]) -> nn.Module:
    give_shape(module, shape)
    return module


def _constant(module: nn.Module, width: int) -> nn.Module:
    constant = constant_for(module)
    constant.narrow(torch.arange(width, device="cpu"))
    return constant


def _low_rank(module: nn.Module, sizes: list[int]) -> nn.Module:
    outputs, rank, inputs = sizes
    return low_rank_like(module, rank, outputs, inputs)


def _low_rank_sizes(module: nn.Module) -> list[int] | None:
    return [module.out_features, module.rank, module.in_features] if isinstance(module, LowRankLinear) else None


def _are_embedding_sizes(value: Any) -> bool:
    return are_sizes(value) and len(value) == 3


def _low_rank_embedding(module: nn.Module, sizes: list[int]) -> nn.Module:
    tokens, rank, width = sizes
    return low_rank_embedding_like(module, rank, tokens, width)


def _low_rank_embedding_sizes(module: nn.Module) -> list[int] | None:
    if not isinstance(module, LowRankEmbedding):
        return None
    return [module.num_embeddings, module.rank, module.embedding_dim]


def _chain(module: nn.Module, shapes: list[list[int]]) -> nn.Module:
    one = next(module.parameters())
    chain = chain_of(shapes, getattr(module, "bias", None) is not None, device=one.device, dtype=one.dtype)
    return chain.train(module.training)


KINDS = {
    "shape": Kind("sizes", are_sizes, _shape, lambda module: list(weight_of(module).shape)),
    "zeros": Kind("a width", is_size, zeros_for, lambda module: module.width if isinstance(module, Zeros) else None),
    "constant": Kind(
        "a width", is_size, _constant, lambda module: module.width if isinstance(module, Constant) else None
    ),
    "low_rank": Kind("sizes", are_sizes, _low_rank, _low_rank_sizes),
    "chain": Kind(
        "convolutions",
        _are_convolutions,
        _chain,
        lambda module: module.shapes() if isinstance(module, ConvChain) else None,
    ),
    "low_rank_embedding": Kind("three sizes", _are_embedding_sizes, _low_rank_embedding, _low_rank_embedding_sizes),
}
"""By name, the most special last; `shape`, the config's layer with other sizes, is what is none of them."""
