"""Removing heads, neurons and filters in fact: narrower layers, recorded in the structure manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hfcompress.errors import Fault, ModelError, unknown
from hfcompress.modeling.cut import cut
from hfcompress.modeling.emptied import constant_for, zeros_for
from hfcompress.modeling.groups import Group, groups_of
from hfcompress.modeling.hidden import keep_hidden as keep_hidden
from hfcompress.modeling.low_rank import whole_name
from hfcompress.modeling.resize import keep_inputs, keep_outputs
from hfcompress.modeling.simplify import simplify
from hfcompress.modeling.structure import Structure, fit_attention, record, structure_of

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


def keep_units(model: PreTrainedModel, kept: Mapping[str, Sequence[int]]) -> PreTrainedModel:
    """Keep some units of a model's groups, and remove the others with every weight that belongs to them.

    Args:
        model: Changed in place; parameters of the layers concerned are new, so make optimizers afterwards.
        kept: By group name the units that stay, ascending, numbered as `groups_of` counts them now. Groups that are
            not named stay whole. Without any unit left a group is emptied: only its last layer's bias stays.

    Returns:
        The model. Its config carries what it takes to load it again; where all layers were narrowed alike and a stock
        config can say so, it stays a stock model.

    Raises:
        ModelError: There is no such group or unit.
    """
    if not kept:
        return model
    groups = {group.name: group for group in groups_of(model, ("heads", "neurons", "filters"))}
    faults = [fault for name, units in kept.items() for fault in _faults(name, units, groups)]
    if faults:
        raise ModelError(*faults)
    structure = structure_of(model.config)
    for name, units in kept.items():
        group = groups[name]
        if len(units) == group.units:
            continue
        if group.kind == "heads":
            before = structure.heads.get(name, {"kept": list(range(group.units)), "of": group.units})
            structure.heads[name] = {**before, "kept": [before["kept"][unit] for unit in units]}
        if units:
            _narrow(model, group, units, structure)
        else:
            _empty(model, group, structure)
    fit_attention(model, structure)
    simplify(model, structure)
    return model


def keep_layers(
    model: PreTrainedModel, layers: Sequence[int], decoder_layers: Sequence[int] | None = None
) -> PreTrainedModel:
    """Keep some layers of a model, pruned or not; see `hfcompress.cut`.

    Args:
        model: It is left as it is.
        layers: The layers to keep, in order, counted from 0.
        decoder_layers: Those of the second stack where there is an encoder and a decoder; None means the same.

    Returns:
        A smaller model with copies of the weights.

    Raises:
        ModelError: The architecture cannot be cut, has no such layers, or its config cannot express the choice.
    """
    return cut(model, list(layers), None if decoder_layers is None else list(decoder_layers))


def _faults(name: str, units: Sequence[int], groups: Mapping[str, Group]) -> list[Fault]:
    if name not in groups:
        return [unknown("group", name, groups, "kept")]
    group = groups[name]
    if list(units) != sorted({*units} & {*range(group.units)}):
        problem = f"{name} cannot keep the units {list(units)}."
        return [Fault("kept", problem, f"It has {group.units}, counted from 0; name some, once each, in order.")]
    if not units and group.kind == "filters":
        problem = f"{name} cannot lose all its filters: a convolution needs one."
        return [Fault("kept", problem, "Keep one of them.")]
    return []


def _narrow(model: PreTrainedModel, group: Group, units: Sequence[int], structure: Structure) -> None:
    """Leave a group's other units out of its layers."""
    for side, keep in ((group.writers, keep_outputs), (group.between, keep_outputs), (group.readers, keep_inputs)):
        for channels in side:
            module = model.get_submodule(channels.module)
            keep(module, channels.of(units, group.units))
            record(model, structure, channels.module)


def _empty(model: PreTrainedModel, group: Group, structure: Structure) -> None:
    """Put zeros in the place of a group's first layers, and the bias in that of its last."""
    stand_ins: dict[str, nn.Module] = {}
    for channels in group.writers:
        name = whole_name(model, channels.module)
        stand_ins[name] = zeros_for(model.get_submodule(name), channels.of_one_unit)
    for channels in group.readers:
        name = whole_name(model, channels.module)
        stand_ins[name] = constant_for(model.get_submodule(name))
    for name, module in stand_ins.items():
        put(model, name, module)
        record(model, structure, name)


def put(model: PreTrainedModel, name: str, module: nn.Module) -> None:
    """Put a module in another's place."""
    place, _, last = name.rpartition(".")
    setattr(model.get_submodule(place), last, module.train(model.training))
