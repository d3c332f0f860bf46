"""What of a structure manifest a stock config can say: layers that are narrower all alike."""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch

from hfcompress.modeling.building import build_model
from hfcompress.modeling.emptied import Emptied
from hfcompress.modeling.families import FAMILIES
from hfcompress.modeling.groups import Place, attention_of, head_width, places_of, query_groups
from hfcompress.modeling.linear import channels_in
from hfcompress.modeling.structure import Structure, relative_name, write_structure

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def simplify(model: PreTrainedModel, structure: Structure) -> None:
    """Move what a stock config can say out of a manifest into the model's config, and give the config the rest.

    Those are a feed-forward network of the same width in all layers, and, where heads have a width of their own in the
    config, the same number of heads (LLaMA) or heads of the same width (T5) in all layers.

    Args:
        model: It has the layers already; its config is changed.
        structure: Its manifest, changed.
    """
    places = list(places_of(model)) if model.config.model_type in FAMILIES else []
    for names, kind in ((_ffn_sizes(model, places), "neurons"), (_head_sizes(model, places), "heads")):
        own = {f"{place.layer}.{part}" for place in places if place.kind == kind for part in place.parts}
        inside = {relative_name(model, name) for name in own}
        if not names or not inside & {*structure.modules}:
            continue
        config = _with(model.config, names)
        rest = Structure(
            {name: entry for name, entry in structure.modules.items() if name not in inside},
            {name: entry for name, entry in structure.heads.items() if kind == "neurons"},
        )
        write_structure(config, rest)
        if _shapes(_built(model, config)) == _shapes(model):
            for name, size in names.items():
                setattr(model.config, name, size)
            structure.modules, structure.heads = rest.modules, rest.heads
    write_structure(model.config, structure)


def _ffn_sizes(model: PreTrainedModel, places: list[Place]) -> dict[str, int]:
    """Return the width of the feed-forward networks by the config's name for it, where it is the same in all layers."""
    found: dict[str, set[int]] = defaultdict(set)
    for place in places:
        stack = next(
            (s for s in FAMILIES[model.config.model_type].stacks if place.group.startswith(f"{s.layers}.")), None
        )
        if place.kind == "neurons" and stack is not None:
            found[stack.ffn_width].add(0 if isinstance(place.reader, Emptied) else channels_in(place.reader))
    return {name: next(iter(sizes)) for name, sizes in found.items() if len(sizes) == 1 and 0 not in sizes}


def _head_sizes(model: PreTrainedModel, places: list[Place]) -> dict[str, int]:
    """Return the number and width of the heads by the config's names, where it says them apart from its width."""
    attentions = [(place, attention_of(model, place)) for place in places if place.kind == "heads"]
    widths = {head_width(own) for _, own in attentions if own is not None and hasattr(own, "key_value_proj_dim")}
    if widths:
        return {"d_kv": widths.pop()} if len(widths) == 1 and {model.config.d_kv} != widths else {}
    sizes = {
        (0 if isinstance(place.reader, Emptied) else channels_in(place.reader), head_width(own), query_groups(own))
        for place, own in attentions
        if own is not None and hasattr(own, "num_key_value_groups")
    }
    if len(sizes) != 1:
        return {}
    ((width, head_dim, groups),) = sizes
    heads = width // head_dim
    if not heads:
        return {}
    return {"num_attention_heads": heads, "num_key_value_heads": heads // groups, "head_dim": head_dim}


def _with(config: PretrainedConfig, sizes: dict[str, int]) -> PretrainedConfig:
    config = copy.deepcopy(config)
    for name, size in sizes.items():
        setattr(config, name, size)
    return config


def _built(model: PreTrainedModel, config: PretrainedConfig) -> Any:
    with torch.device("meta"):
        return build_model(type(model), config)


def _shapes(model: PreTrainedModel) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}
