"""Removing heads and neurons that zeros have silenced: whatever goes through them is exactly 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from transformers.activations import ACT2FN

from hfcompress.modeling.surgery import keep_units
from hfcompress.pruning.scored import given_by, groups_in, read_by

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from hfcompress.modeling.groups import Group

_ACTIVATIONS = ("hidden_act", "hidden_activation", "activation", "activation_function", "dense_act_fn")
"""What the architectures call their feed-forward network's activation in the config."""


def remove_silent(model: PreTrainedModel) -> PreTrainedModel:
    """Remove the heads and neurons of a model that give or are read by zeros alone, in place; it answers as before."""
    gone = {group.name: silent(model, group) for group in groups_in(model)}
    return keep_units(
        model, {name: (~units).nonzero().flatten().tolist() for name, units in gone.items() if units.any()}
    )


def silent(model: PreTrainedModel, group: Group) -> Tensor:
    """Say of each unit `(units,)` whether the model answers the same without it.

    It does where all that reads the unit is 0; where all that gives a neuron its numbers is 0, biases too, and the
    activation of 0 is 0; where a head's values are. A unit of zeros with a bias is a constant, and stays.
    """
    unread = read_by(model, group) == 0
    if group.kind == "heads":
        fused = len(group.writers) == 1
        # Query, key and value side by side, or one after another; whatever else gives a head its numbers follows.
        values = group.writers[0 if fused else 2]
        return unread | (given_by(model, values, group.units, last_copy=fused) == 0)
    if not _keeps_zero(model):
        return unread
    given = torch.stack([given_by(model, channels, group.units) for channels in group.writers])
    return unread | (given.sum(dim=0) == 0)


def _keeps_zero(model: PreTrainedModel) -> bool:
    """Say whether the activation of 0 is known to be 0."""
    names = [getattr(model.config, name) for name in _ACTIVATIONS if isinstance(getattr(model.config, name, None), str)]
    return bool(names) and all(name in ACT2FN and float(ACT2FN[name](torch.zeros(1))) == 0 for name in names)
