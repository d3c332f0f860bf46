"""What units cost by this machine's clock: a table of measured times, by shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from hfcompress.measure.latency import Effort, time_calls
from hfcompress.modeling.groups import Group
from hfcompress.modeling.linear import fan_in, fan_out
from hfcompress.pruning.budget import LENGTH

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_POINTS = 8
"""How many numbers of units are timed for each shape; between them time is a straight line."""

_EFFORT = Effort(rounds=30, seconds=2.0)

Shape = tuple[str, int, tuple[tuple[int, int], ...], tuple[int, int]]
"""Kind, units, each writer's inputs and channels a unit, the reader's channels a unit and outputs."""


def time_units(model: PreTrainedModel, groups: Sequence[Group]) -> dict[str, np.ndarray]:
    """Measure how long each group takes with so many units: a text of 128 tokens, one thread, PyTorch.

    The numbers of one shape take turns; groups of the same shape are measured once.

    Args:
        model: The model, for the shapes.
        groups: Its groups.

    Returns:
        By group name milliseconds for 0, 1, 2, … units, `(units + 1,)`, never falling.
    """
    tables: dict[Shape, np.ndarray] = {}
    for group in groups:
        shape = _shape(model, group)
        if shape not in tables:
            tables[shape] = _time(shape)
    return {group.name: tables[_shape(model, group)] for group in groups}


def _shape(model: PreTrainedModel, group: Group) -> Shape:
    writers = tuple((fan_in(model.get_submodule(one.module)), one.of_one_unit) for one in group.writers)
    reader = (group.reader.of_one_unit, fan_out(model.get_submodule(group.reader.module)))
    return group.kind, group.units, writers, reader


def _time(shape: Shape) -> np.ndarray:
    units = shape[1]
    points = np.unique(np.linspace(1, units, min(_POINTS, units)).round().astype(int))
    calls = {str(count): _call(shape, int(count)) for count in points}
    medians = np.median(time_calls(calls, _EFFORT), axis=0)
    times = np.interp(np.arange(units + 1), [0, *points], [0.0, *medians])
    return np.maximum.accumulate(times)


def _call(shape: Shape, count: int) -> Callable[[], object]:
    """Return a function that computes what a group with `count` units computes, on random numbers."""
    kind, _, writers, (width_read, outputs) = shape
    inputs = [torch.randn(1, LENGTH, taken) for taken, _ in writers]
    weights = [torch.randn(width * count, taken) for taken, width in writers]
    read = torch.randn(outputs, width_read * count)

    def call() -> object:
        given = [functional.linear(x, weight) for x, weight in zip(inputs, weights, strict=True)]
        values = given[0][..., : read.shape[1]]
        if kind == "heads":
            heads = values.unflatten(-1, (count, -1)).transpose(1, 2)
            values = functional.scaled_dot_product_attention(heads, heads, heads).transpose(1, 2).flatten(2)
        else:
            values = functional.gelu(values)
        return functional.linear(values, read)

    return call
