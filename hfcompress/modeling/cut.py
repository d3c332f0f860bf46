"""Students cut out of their teacher: some of its layers, with its weights."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, TypeVar

from hfcompress.errors import Fault, ModelError
from hfcompress.modeling.blocks import Blocks
from hfcompress.modeling.building import build_model
from hfcompress.modeling.families import blocks_of, stacks_of
from hfcompress.modeling.layer_patterns import cut_groups, cut_patterns, stack_depths

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedModel

T = TypeVar("T")


def cut_config(
    config: PretrainedConfig, layers: list[int], decoder_layers: list[int] | None = None
) -> PretrainedConfig:
    """Return a copy of a config for the layers that are kept.

    Args:
        config: The config to cut.
        layers: The layers to keep, in order, counted from 0.
        decoder_layers: Those of the second stack where there is an encoder and a decoder; None means the same.

    Raises:
        ModelError: The architecture cannot be cut, has no such layers, or its config cannot express the choice.
    """
    blocks, depths = blocks_of(config.model_type), stack_depths(config)
    kept = [layers, layers if decoder_layers is None else decoder_layers]
    for numbers, depth in zip(kept, depths, strict=False):
        _check(numbers, depth)
    small = copy.deepcopy(config)
    cut_patterns(small, layers)
    kept_lists = [cut_groups(small, layers)] if blocks.shared else kept
    _cut_structure(small, list(zip(blocks.stacks, kept_lists, strict=False)))
    for stack, numbers in zip(blocks.stacks, kept, strict=False):
        setattr(small, str(stack.depth), len(numbers))
    if hasattr(small, "num_hidden_layers"):  # a second name of the depth, or (BART under transformers 4) a second value
        small.num_hidden_layers = len(layers)
    return small


def cut(model: PreTrainedModel, layers: list[int], decoder_layers: list[int] | None = None) -> PreTrainedModel:
    """Build a smaller model out of some of a model's layers.

    Args:
        model: The model to cut; it is left as it is.
        layers: The layers to keep, in order, counted from 0.
        decoder_layers: Those of the second stack where there is an encoder and a decoder; None means the same.

    Returns:
        A model of the same class and mode (training or evaluation) with copies of the weights; layers that pruning
        made narrower stay so, any other model is stock.

    Example:
        >>> student = cut(teacher, [1, 3, 5])  # doctest: +SKIP

    Raises:
        ModelError: The architecture cannot be cut, has no such layers, or its config cannot express the choice.
    """
    small = build_model(type(model), cut_config(model.config, layers, decoder_layers)).to(model.dtype)  # type: ignore[arg-type]
    result = small.load_state_dict(_kept_weights(model, layers, decoder_layers), strict=False)
    if result.missing_keys or result.unexpected_keys:
        raise ModelError(f"cutting {type(model).__name__} left weights without a place: {result}")
    small.tie_weights()
    if model.can_generate():
        small.generation_config = copy.deepcopy(model.generation_config)
    return small.to(model.device).train(model.training)


def _cut_structure(config: PretrainedConfig, kept: list[tuple[Blocks, list[int]]]) -> None:
    """Give the layers new numbers in the manifest of a pruned model."""
    from hfcompress.modeling.structure import structure_of, write_structure

    structure = structure_of(config)
    if not structure:
        return
    for stack, numbers in kept:
        structure.modules = _renumbered(structure.modules, stack.layers, stack, numbers)
        structure.heads = _renumbered(structure.heads, stack.layers, stack, numbers)
    write_structure(config, structure)


def _check(layers: list[int], depth: int) -> None:
    if not layers or layers != sorted(set(layers) & set(range(depth))):
        fix = f"Its {depth} layers are counted from 0 to {depth - 1}; name some, once each, in ascending order."
        raise ModelError(Fault("layers", f"the model cannot be cut to the layers {layers}.", fix))


def _kept_weights(model: PreTrainedModel, layers: list[int], decoder_layers: list[int] | None) -> dict[str, Tensor]:
    """Return the state dict of a cut: kept layers under their new numbers, and all that is no layer."""
    state = model.state_dict()
    names = {id(module): name for name, module in model.named_modules()}
    encoder = blocks_of(model.config.model_type).layers
    for stack, modules in stacks_of(model):
        numbers = layers if stack.layers == encoder or decoder_layers is None else decoder_layers
        if stack.shared:
            numbers = cut_groups(copy.deepcopy(model.config), numbers)
        state = _renumbered(state, names[id(modules)], stack, numbers)
    return state


def _renumbered(state: dict[str, T], layers: str, stack: Blocks, numbers: list[int]) -> dict[str, T]:
    """Leave layers out of a dict by name; what only the first layer holds goes to the new first one."""
    place = {old: new for new, old in enumerate(numbers)}
    first = tuple(f"{layers}.0.{name}" for name in stack.first_layer)
    kept = {}
    for name, tensor in state.items():
        if not name.startswith(f"{layers}.") or name.startswith(first):
            kept[name] = tensor
            continue
        number, _, rest = name.removeprefix(f"{layers}.").partition(".")
        if int(number) in place:
            kept[f"{layers}.{place[int(number)]}.{rest}"] = tensor
    return kept
