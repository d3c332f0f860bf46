"""A model layer by layer: heads, FFN neurons, ranks and bits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from hfcompress.errors import ModelError
from hfcompress.modeling.emptied import Emptied
from hfcompress.modeling.families import component_of, layers_prefix, stacks_of
from hfcompress.modeling.groups import Place, attention_of, head_width, places_of
from hfcompress.modeling.layer_patterns import layer_groups
from hfcompress.modeling.linear import channels_in
from hfcompress.modeling.low_rank import LowRankLinear
from hfcompress.modeling.projections import attention_heads

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from hfcompress.measure.onnx_size import OnnxWeight

_PARTS = ("attention", "ffn")


def layer_structure(model: PreTrainedModel, weights: Sequence[OnnxWeight] | None = None) -> list[dict[str, Any]] | None:
    """Describe each layer of a model.

    Args:
        model: Its modules; they need no weights.
        weights: Those of its ONNX file, which say the bits; without them all are of 32.

    Returns:
        One entry a layer, those of an encoder before those of a decoder: `layer` (counted on), `heads`, `head_size`,
        `neurons` (of the FFN), `rank` (None for full rank) and `bits` of `attention` and `ffn`. None for an
        architecture without attention, or without a row in the block table.
    """
    try:
        attention_heads(model.config)
        prefix, stacks = layers_prefix(model), stacks_of(model)
    except ModelError:
        return None
    places = {place.group: place for place in places_of(model)}
    base = prefix.removesuffix(stacks[0][0].layers)
    found: list[dict[str, Any]] = []
    for blocks, layers in stacks:
        groups = layer_groups(model.config) if blocks.shared else list(range(len(layers)))
        for group in groups:
            place = f"{base}{blocks.layers}.{group}."
            own_places = [places.get(f"{blocks.layers}.{group}.{kind}") for kind in ("heads", "neurons")]
            own = [weight for weight in weights or () if weight.is_matrix and weight.module.startswith(place)]
            bits = {part: _bits_of(own, part, model.config.model_type, prefix) for part in _PARTS} if weights else None
            found.append(
                {
                    "layer": len(found),
                    "heads": _units(model, own_places[0]),
                    "head_size": _head_size(model, own_places[0]),
                    "neurons": _units(model, own_places[1]),
                    "rank": _ranks_of(model, place),
                    "bits": bits or dict.fromkeys(_PARTS, 32),
                }
            )
    return found


def _units(model: PreTrainedModel, place: Place | None) -> int | None:
    """Return how many (query) heads or neurons there are: what the last layer of a group reads."""
    if place is None:
        return None
    if isinstance(place.reader, Emptied):
        return 0
    attention = attention_of(model, place)
    return channels_in(place.reader) // (1 if attention is None else head_width(attention))


def _head_size(model: PreTrainedModel, place: Place | None) -> int | None:
    """Return how wide a head is; None where there is no attention."""
    attention = None if place is None else attention_of(model, place)
    return None if attention is None else head_width(attention)


def _ranks_of(model: PreTrainedModel, place: str) -> int | str | None:
    """Return the ranks in a layer, such as 64, or `32–64`, from the least to the most; None where all are full."""
    modules = (module for name, module in model.named_modules() if name.startswith(place))
    ranks = sorted({module.rank for module in modules if isinstance(module, LowRankLinear)})
    if len(ranks) > 1:
        return f"{ranks[0]}–{ranks[-1]}"
    return ranks[0] if ranks else None


def _bits_of(weights: Iterable[OnnxWeight], part: str, model_type: str, prefix: str) -> float | int | None:
    """Return the bits of a number in one part of a layer, on average; None where nothing is known of it."""
    own = [w for w in weights if component_of(f"{w.module}.weight", model_type, prefix) == part]
    elements = sum(weight.elements for weight in own)
    if not elements:
        return None
    mean = sum(weight.bits * weight.elements for weight in own) / elements
    return int(mean) if mean == int(mean) else round(mean, 1)
