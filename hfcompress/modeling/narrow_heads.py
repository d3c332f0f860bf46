"""Narrower heads: an attention's linear layers with fewer channels for each head, and how the manifest says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from hfcompress.modeling.emptied import Emptied
from hfcompress.modeling.groups import Place, attention_of, head_width, places_of
from hfcompress.modeling.linear import channels_in, is_conv1d_of_gpt2, matrix, weight_of
from hfcompress.modeling.resize import give_shape
from hfcompress.modeling.simplify import simplify
from hfcompress.modeling.structure import fit_attention, record, structure_of

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Affine:
    """A matrix `(outputs, inputs)`, and a bias `(outputs,)` where there is one."""

    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True)
class Heads:
    """What an attention computes with: heads stand one after another in the channels in between.

    Args:
        query: From the hidden states.
        key: From the hidden states, or those of an encoder.
        value: The same.
        output: From all heads' values.
    """

    query: Affine
    key: Affine
    value: Affine
    output: Affine


@dataclass(frozen=True)
class Attention:
    """One attention of a model.

    Args:
        group: The name of its heads' group, `encoder.layer.3.heads`.
        module: What computes it.
        layers: Names of its linear layers, the output's last; query, key and value may be one.
        heads: How many it has.
        width: How wide each is.
    """

    group: str
    module: nn.Module
    layers: tuple[str, ...]
    heads: int
    width: int


def attentions_of(model: PreTrainedModel) -> list[Attention]:
    """Return a model's attentions that have heads, layer by layer; they are to have as many keys as queries."""
    return [found for place in places_of(model) if (found := _attention(model, place)) is not None]


def _attention(model: PreTrainedModel, place: Place) -> Attention | None:
    module = attention_of(model, place)
    if module is None or isinstance(place.reader, Emptied):
        return None
    width = head_width(module)
    layers = tuple(f"{place.layer}.{part}" for part in place.parts)
    return Attention(place.group, module, layers, channels_in(place.reader) // width, width)


def read_heads(model: PreTrainedModel, attention: Attention) -> Heads:
    """Return an attention's weights, float64."""
    *writers, output = (_read(model.get_submodule(name)) for name in attention.layers)
    if len(writers) == 1:
        (fused,) = writers
        biases = [None] * 3 if fused.bias is None else fused.bias.chunk(3)
        writers = [Affine(*pair) for pair in zip(fused.weight.chunk(3), biases, strict=True)]
    query, key, value = writers
    return Heads(query, key, value, output)


def _read(module: nn.Module) -> Affine:
    bias: Tensor | None = module.bias  # type: ignore[assignment]
    return Affine(matrix(module).double(), None if bias is None else bias.detach().double())


def put_heads(model: PreTrainedModel, narrow: Mapping[str, Heads]) -> PreTrainedModel:
    """Give attentions heads of another width.

    Args:
        model: Changed in place; parameters of the layers concerned are new, so make optimizers afterwards.
        narrow: By group the weights of all its heads, as many as there are, none wider than it is. There are biases
            where the attention has some.

    Returns:
        The model; its config carries what it takes to load it again.
    """
    structure = structure_of(model.config)
    for attention in attentions_of(model):
        if attention.group not in narrow:
            continue
        found = narrow[attention.group]
        writers = [found.query, found.key, found.value]
        if len(attention.layers) == 2:
            writers = [_joined(writers)]
        for name, affine in zip(attention.layers, [*writers, found.output], strict=True):
            _write(model.get_submodule(name), affine)
        for name in attention.layers:
            record(model, structure, name)
        whole = {"kept": list(range(attention.heads)), "of": attention.heads}
        width = len(found.value.weight) // attention.heads
        structure.heads[attention.group] = {**structure.heads.get(attention.group, whole), "width": width}
    fit_attention(model, structure)
    simplify(model, structure)
    return model


def _joined(parts: list[Affine]) -> Affine:
    biases = [part.bias for part in parts if part.bias is not None]
    return Affine(torch.cat([part.weight for part in parts]), torch.cat(biases) if biases else None)


@torch.no_grad()
def _write(module: nn.Module, affine: Affine) -> None:
    """Give a layer a smaller weight, and its bias."""
    weight = affine.weight.T if is_conv1d_of_gpt2(module) else affine.weight
    give_shape(module, weight.shape)
    weight_of(module).copy_(weight)
    if module.bias is not None and affine.bias is not None:
        module.bias.copy_(affine.bias)  # type: ignore[operator]
