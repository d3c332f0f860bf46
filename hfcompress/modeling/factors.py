"""Putting low-rank layers in the place of linear ones, and back: `merge` undoes it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from hfcompress.modeling.building import build_model
from hfcompress.modeling.embedding_tables import merge_embeddings
from hfcompress.modeling.low_rank import LOW_RANK, low_rank_like
from hfcompress.modeling.simplify import simplify
from hfcompress.modeling.structure import Structure, record, relative_name, structure_of, write_structure
from hfcompress.modeling.surgery import put

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from hfcompress.modeling.low_rank import ConvChain


@dataclass(frozen=True)
class Factors:
    """A matrix `(outputs, inputs)` as `up @ down`.

    Args:
        down: `(rank, inputs)`.
        up: `(outputs, rank)`.
        shift: What the bias grows by, `(outputs,)`; None where nothing is known of the inputs.
    """

    down: Tensor
    up: Tensor
    shift: Tensor | None = None


@torch.no_grad()
def put_factors(model: PreTrainedModel, factors: Mapping[str, Factors]) -> PreTrainedModel:
    """Put low-rank layers in the place of linear ones.

    Args:
        model: Changed in place; parameters of the layers concerned are new, so make optimizers afterwards.
        factors: By the linear layer's name in the model. Layers that are shared are replaced where they stand once.

    Returns:
        The model; its config carries what it takes to load it again.
    """
    structure = structure_of(model.config)
    for name, found in factors.items():
        module = model.get_submodule(name)
        layer = low_rank_like(module, len(found.down))
        layer.down.weight.copy_(found.down)
        layer.up.weight.copy_(found.up)
        if layer.up.bias is not None:
            layer.up.bias.copy_(module.bias)  # type: ignore[arg-type]
            if found.shift is not None:
                layer.up.bias.add_(found.shift.to(layer.up.bias))
        put(model, name, layer)
        record(model, structure, name)
    write_structure(model.config, structure)
    return model


@torch.no_grad()
def put_chains(model: PreTrainedModel, chains: Mapping[str, ConvChain]) -> PreTrainedModel:
    """Put chains of convolutions in the place of single ones.

    Args:
        model: Changed in place; parameters of the layers concerned are new, so make optimizers afterwards.
        chains: By the convolution's name in the model.

    Returns:
        The model; its config carries what it takes to load it again.
    """
    structure = structure_of(model.config)
    for name, chain in chains.items():
        put(model, name, chain)
        record(model, structure, name)
    write_structure(model.config, structure)
    return model


def merge(model: PreTrainedModel) -> PreTrainedModel:
    """Multiply the factors of all low-rank layers out: the model computes the same with one matrix or kernel each.

    Args:
        model: Changed in place. What a stock config can say is a stock model again.
    """
    structure = structure_of(model.config)
    merge_embeddings(model, structure)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, LOW_RANK)}
    stock = _stock_shapes(model) if layers else {}
    for name, module in layers.items():
        put(model, name, module.dense())
        record(model, structure, name)
        if structure.modules[relative_name(model, name)] == {"shape": stock.get(f"{name}.weight")}:
            del structure.modules[relative_name(model, name)]
    simplify(model, structure)
    return model


def _stock_shapes(model: PreTrainedModel) -> dict[str, list[int]]:
    """Return the shapes that the config alone gives the weights."""
    config = copy.deepcopy(model.config)
    write_structure(config, Structure())
    with torch.device("meta"):
        stock = build_model(type(model), config)
    return {name: list(tensor.shape) for name, tensor in stock.state_dict().items()}
