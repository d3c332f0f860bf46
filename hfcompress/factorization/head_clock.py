"""How long an attention takes by the width of its heads, on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from hfcompress.factorization.clock import LENGTH
from hfcompress.measure.timings import time_once
from hfcompress.modeling.linear import channels_in, channels_out

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from hfcompress.modeling.narrow_heads import Attention

_POINTS = 8
"""How many widths are timed; between them time is a straight line."""


def shape_of(model: PreTrainedModel, attention: Attention) -> tuple[int, int, int, int]:
    """Return an attention's heads, their width, and what it reads and gives."""
    first, last = (model.get_submodule(attention.layers[place]) for place in (0, -1))
    return attention.heads, attention.width, channels_in(first), channels_out(last)


def expected_time(
    model: PreTrainedModel, attentions: Sequence[Attention], widths: Mapping[str, int], multiple: int
) -> dict[str, float]:
    """Return how long the attentions take, one text of 128 tokens after each, as they are and as they become."""
    shapes = {one.group: shape_of(model, one) for one in attentions}
    times = {shape: time_widths(*shape, multiple) for shape in {*shapes.values()}}
    after = sum(float(times[shapes[one.group]][widths.get(one.group, one.width)]) for one in attentions)
    return {"milliseconds": after, "dense_milliseconds": sum(float(times[shape][-1]) for shape in shapes.values())}


def time_widths(heads: int, width: int, inputs: int, outputs: int, multiple: int) -> np.ndarray:
    """Return how long an attention takes by the width of its heads: a text of 128 tokens, one thread, PyTorch.

    It is measured the first time on a machine, and then kept in the user's cache.

    Args:
        heads: How many it has.
        width: The largest width.
        inputs: What it reads.
        outputs: What it gives.
        multiple: Widths that are timed are multiples of this.

    Returns:
        Milliseconds for width 0, 1, 2, …, `(width + 1,)`, never falling.
    """
    steps = -(-width // multiple)
    points = sorted({min(round(one) * multiple, width) for one in np.linspace(1, steps, min(_POINTS, steps))})
    calls = {str(one): _call(heads, one, inputs, outputs) for one in reversed(points)}
    times = time_once(f"attention {inputs}x{heads}x{width}x{outputs}, {LENGTH} tokens, by width", calls)
    return np.maximum.accumulate(
        np.interp(np.arange(width + 1), [0, *points], [0.0, *(times[str(one)] for one in points)])
    )


def _call(heads: int, width: int, inputs: int, outputs: int) -> Callable[[], object]:
    values, output = torch.randn(1, LENGTH, inputs), torch.randn(outputs, heads * width)
    writers = [torch.randn(heads * width, inputs) for _ in range(3)]

    def attend() -> object:
        given = [functional.linear(values, one).unflatten(-1, (heads, -1)).transpose(1, 2) for one in writers]
        found = functional.scaled_dot_product_attention(*given)
        return functional.linear(found.transpose(1, 2).flatten(2), output)

    return attend
