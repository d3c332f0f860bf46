"""Removing dimensions of the hidden state, in all layers alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from hfcompress.errors import Fault, ModelError
from hfcompress.modeling.emptied import Constant, Emptied
from hfcompress.modeling.families import blocks_of, stacks_of
from hfcompress.modeling.groups import places_of
from hfcompress.modeling.linear import channels_in, channels_out, weight_of
from hfcompress.modeling.low_rank import LowRankLinear, reader_name, writer_name
from hfcompress.modeling.low_rank_embedding import LowRankEmbedding, LowRankTable
from hfcompress.modeling.resize import keep_inputs, keep_outputs
from hfcompress.modeling.structure import record, structure_of, write_structure

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ENCODERS = ("bert", "distilbert", "electra", "modernbert", "mpnet", "roberta", "xlm-roberta")
_FAMILIES = (*_ENCODERS, "llama", "qwen2", "qwen3")
# Layers of heads and poolers that are not the last, and what stands between embeddings and layers.
_INNER = ("dense", "pre_classifier", "vocab_transform", "embeddings_project")

_Step = tuple[str, nn.Module, bool, bool]
"""A module by name, and whether it reads and whether it writes the hidden state."""


def keep_hidden(model: PreTrainedModel, dimensions: Sequence[int]) -> PreTrainedModel:
    """Keep some dimensions of the hidden state: of the embeddings, of what each layer reads and writes, of the head.

    A layer norm then normalises over the dimensions that are left, so that the model answers otherwise than one whose
    other dimensions are set to 0; expect to train it afterwards. `config.hidden_size` stays what it was, the manifest
    says the rest.

    Args:
        model: A BERT-like encoder or a LLaMA-like decoder, changed in place; tied weights stay tied.
        dimensions: Those that stay, ascending, counted from 0 as the model has them now.

    Raises:
        ModelError: The architecture is none of those, or there are no such dimensions.
    """
    blocks = blocks_of(model.config.model_type)
    if model.config.model_type not in _FAMILIES:
        problem = f"dimensions of the hidden state of {model.config.model_type} cannot be removed."
        raise ModelError(Fault("", problem, f"Possible with: {', '.join(_FAMILIES)}."))
    width = _width(model)
    if not dimensions or list(dimensions) != sorted({*dimensions} & {*range(width)}):
        fix = f"It has {width}, counted from 0; name some, once each, in ascending order."
        raise ModelError(Fault("dimensions", "the hidden state has no such dimensions.", fix))
    if len(dimensions) == width:
        return model
    index = torch.tensor(list(dimensions))
    structure = structure_of(model.config)
    steps = [*_inside(model)]
    steps += _outside(model, {step[0] for step in steps}, blocks.embeddings, width)
    for name, module, reads, writes in steps:
        if reads:
            keep_inputs(module, index)
        if writes and isinstance(module, Constant):
            module.narrow(index)
        elif writes:
            keep_outputs(module.projection if isinstance(module, LowRankEmbedding) else module, index)
        if reads or writes:
            record(model, structure, name)
    write_structure(model.config, structure)
    model.tie_weights()
    return model


def _width(model: PreTrainedModel) -> int:
    """Return the width of the hidden state as it is: that of the last layers' outputs."""
    reader = next(places_of(model)).reader
    return reader.width if isinstance(reader, Emptied) else channels_out(reader)


def _inside(model: PreTrainedModel) -> Iterator[_Step]:
    """Return what has a weight in the layers, and whether each reads and whether it writes the hidden state."""
    sides = _sides(model)
    names = {id(module): name for name, module in model.named_modules()}
    for _, layers in stacks_of(model):
        for name, module in layers.named_modules(prefix=names[id(layers)]):
            if isinstance(module, LowRankLinear):
                continue  # its two layers come by themselves
            if isinstance(module, nn.Linear | Emptied):
                yield name, module, *sides.get(name, (False, False))
            elif hasattr(module, "weight"):
                yield name, module, False, not name.endswith(("q_norm", "k_norm"))  # Qwen3's are as wide as a head


def _sides(model: PreTrainedModel) -> dict[str, tuple[bool, bool]]:
    """Return of each layer of the groups, by name, whether it reads and whether it writes the hidden state."""
    found = {}
    for place in places_of(model):
        for part, module in place.parts.items():
            is_last, name = module is place.reader, f"{place.layer}.{part}"
            end = writer_name(name, module) if is_last else reader_name(name, module)
            found[end] = not is_last and not isinstance(module, Emptied), is_last
    return found


def _outside(model: PreTrainedModel, inside: set[str], embeddings: str, width: int) -> Iterator[_Step]:
    """Return embeddings, norms, pooler and head, and whether each reads and whether it writes the hidden state."""
    body = "" if model.base_model is model else f"{model.base_model_prefix}."
    tables = {name for name, module in model.named_modules() if isinstance(module, LowRankTable)}
    for name, module in model.named_modules():
        if name in inside or name.rpartition(".")[0] in tables:
            continue
        if isinstance(module, nn.Linear):
            is_inner = name.rpartition(".")[2] in _INNER
            yield name, module, channels_in(module) == width, is_inner and channels_out(module) == width
        elif isinstance(module, nn.Embedding | LowRankEmbedding):
            in_place = name.startswith(f"{body}{embeddings}")
            yield name, module, False, in_place and module.embedding_dim == width
        elif getattr(module, "weight", None) is not None:
            yield name, module, False, weight_of(module).shape == (width,)
