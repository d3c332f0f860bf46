"""What a config says of single layers: how many there are, which kind each is, and which choices it can express."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hfcompress.errors import Fault, ModelError, RequestError
from hfcompress.modeling.families import blocks_of

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_GLOBAL_EVERY = "global_attn_every_n_layers"


def stack_depths(config: PretrainedConfig) -> tuple[int, ...]:
    """Return the number of layers: one number, or encoder's and decoder's.

    Raises:
        ModelError: The architecture has no row in the block table, or no layers that could be left out.
    """
    blocks = blocks_of(config.model_type)
    stacks = blocks.stacks
    if len(stacks) > 1 and not config.is_encoder_decoder:
        stacks = (stacks[1],) if getattr(config, "is_decoder", False) else (stacks[0],)
    if any(stack.depth is None for stack in stacks):
        problem = f"{config.model_type} cannot be cut: its stages differ in width, none can be left out."
        raise ModelError(Fault("", problem, "Choose a smaller student: resnet-18, mobilenet-v2 or mobilenet-v1."))
    return tuple(getattr(config, str(stack.depth)) for stack in stacks)


def even_layers(count: int, depth: int, where: str = "cut") -> list[int]:
    """Choose layers spread evenly over a model, the last one among them: layer `(i + 1) * depth / count - 1`.

    Raises:
        RequestError: More layers are asked for than there are, or none.
    """
    if not 1 <= count <= depth:
        raise RequestError(
            Fault(where, f"the teacher has {depth} layers, {count} were asked for.", f"Allowed: 1 to {depth}.")
        )
    return [round((i + 1) * depth / count) - 1 for i in range(count)]


def fitting_layers(count: int, config: PretrainedConfig, depth: int, where: str = "cut") -> list[int]:
    """Choose layers as `even_layers` does, or the nearest that the config can express.

    Where only the first layer can stand first (ModernBERT) it is kept, and the rest spread up to the last. Where the
    kind of attention follows from a layer's place (ModernBERT under transformers 4), each goes to a place of its kind.

    Raises:
        RequestError: More layers are asked for than there are, or none.
    """
    layers = even_layers(count, depth, where)
    if not blocks_of(config.model_type).starts_alone:
        return layers
    every = getattr(config, _GLOBAL_EVERY, 1) if _kinds(config) is None else 1
    chosen: list[int] = []
    for place in range(count):
        target = place * (depth - 1) / max(count - 1, 1)
        free = range(chosen[-1] + 1 if chosen else 0, depth - (count - place) + 1)
        fitting = [layer for layer in free if (layer % every == 0) == (place % every == 0)]
        if not fitting:
            return list(range(count))
        chosen.append(min(fitting, key=lambda layer: abs(layer - target)))
    return chosen


def cut_patterns(config: PretrainedConfig, layers: list[int]) -> None:
    """Make a config's lists and rules about single layers fit the layers that are kept.

    Args:
        config: Changed in place; it still describes all layers, whatever its depth says.
        layers: The layers to keep, in order.

    Raises:
        ModelError: A rule cannot be made to fit.
    """
    if blocks_of(config.model_type).starts_alone and layers[0] != 0:
        problem = f"the first layer of {config.model_type} has no norm before its attention: no other can stand first."
        raise ModelError(Fault("layers", problem, f"Keep layer 0 too: {', '.join(map(str, [0, *layers]))}."))
    if getattr(config, "scale_attn_by_inverse_layer_idx", False) and layers != list(range(len(layers))):
        problem = "this model divides its attention by each layer's number (scale_attn_by_inverse_layer_idx)."
        raise ModelError(Fault("layers", problem, f"Keep the first layers: {_listed(range(len(layers)))}."))
    if hasattr(config, _GLOBAL_EVERY):
        _cut_global_attention(config, layers)
    if _kinds(config) is not None:
        config.layer_types = [config.layer_types[layer] for layer in layers]
    if hasattr(config, "max_window_layers"):
        config.max_window_layers = sum(layer < config.max_window_layers for layer in layers)


def _kinds(config: PretrainedConfig) -> list[str] | None:
    return getattr(config, "layer_types", None)


def _cut_global_attention(config: PretrainedConfig, layers: list[int]) -> None:
    """Say by one number which layers attend to all tokens: those whose place it divides.

    Raises:
        ModelError: No number does, and the config (of transformers 4) has no list to say it otherwise.
    """
    now = getattr(config, _GLOBAL_EVERY)
    kinds = _kinds(config)
    is_global = [kinds[layer] == "full_attention" if kinds else layer % now == 0 for layer in layers]
    for every in (now, *range(1, len(layers) + 1)):
        if is_global == [place % every == 0 for place in range(len(layers))]:
            setattr(config, _GLOBAL_EVERY, every)
            return
    if kinds is None:
        problem = f"under transformers 4 one layer in {now} attends to all tokens, which {_listed(layers)} would break."
        fitting = _listed(fitting_layers(len(layers), config, config.num_hidden_layers))
        raise ModelError(Fault("layers", problem, f"Keep for example {fitting}, or use transformers 5."))


def layer_groups(config: PretrainedConfig) -> list[int]:
    """Return the group of shared weights (ALBERT) that each layer uses."""
    return [int(i / (config.num_hidden_layers / config.num_hidden_groups)) for i in range(config.num_hidden_layers)]


def cut_groups(config: PretrainedConfig, layers: list[int]) -> list[int]:
    """Return the groups of shared weights that the kept layers use.

    Args:
        config: Its depth and number of groups are changed.
        layers: The layers to keep, in order.

    Raises:
        ModelError: The kept layers do not divide among their groups as the config says.
    """
    before = layer_groups(config)
    groups = sorted({before[layer] for layer in layers})
    config.num_hidden_layers, config.num_hidden_groups = len(layers), len(groups)
    if [before[layer] for layer in layers] != [groups[group] for group in layer_groups(config)]:
        problem = f"layers {_listed(layers)} do not divide evenly among the {len(groups)} groups that share weights."
        raise ModelError(Fault("layers", problem, "Keep as many layers of each group."))
    return groups


def _listed(layers: list[int] | range) -> str:
    return ",".join(map(str, layers))
