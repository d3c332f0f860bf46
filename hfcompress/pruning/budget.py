"""Budgets: what units cost in multiply-accumulates, and how many of them may stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hfcompress.modeling.groups import Group

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LENGTH = 128
"""Tokens of the text that costs are counted for, as everywhere in the package's tables."""


def unit_macs(model: PreTrainedModel, group: Group) -> int:
    """Return the multiply-accumulates of one unit for one token of a text of 128."""
    # Each query meets each key, and each probability each value.
    attention = 2 * LENGTH * group.reader.of_one_unit if group.kind == "heads" else 0
    return group.weights(model) + attention


def offered(group: Group, multiple: int) -> np.ndarray:
    """Return how many units of a group could be kept: none, multiples, all.

    Args:
        group: The group.
        multiple: Neurons stay in multiples of it, which matrix products like; heads in any number.
    """
    step = multiple if group.kind == "neurons" else 1
    return np.unique(np.append(np.arange(0, group.units, step), group.units))
