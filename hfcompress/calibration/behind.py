"""What a layer takes behind all that was compressed before it, and what it should give there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hfcompress.calibration.least_squares import Fit, PairSums
from hfcompress.calibration.walk import Stop, Walk
from hfcompress.modeling.linear import is_convolution
from hfcompress.modeling.statistics import counted, token_masks, tokens_read


@torch.no_grad()
def fits_behind(
    walk: Walk, number: int, stops: Sequence[Stop], wanted: Sequence[Stop], weights: Mapping[str, Sequence[Tensor]]
) -> dict[str, Fit]:
    """Return the moments for some linear layers of a layer that is half compressed.

    With the inputs `x` that a linear layer takes now the target is `W x₀ + (r₀ − r)`: what it gave before anything was
    compressed, and what the residual stream `r` that it is added to has lost since.

    Args:
        walk: The model, entered at layer `number`.
        number: The layer.
        stops: Its linear layers that are run before those that are wanted, in the order of the run.
        wanted: Those whose moments are wanted, in that order; all read the same.
        weights: Of each, by name and batch, the weight of each token that counts, `(tokens,)`.

    Returns:
        By name.
    """
    sums = {stop.name: PairSums() for stop in wanted}
    for place, batch in enumerate(walk.batches):
        seen = walk.now(number, place, stops, wanted)
        masks = token_masks(walk.model, batch)
        for stop in wanted:
            before, now = walk.before(place, stop), seen[stop.name]
            module: Any = walk.model.get_submodule(stop.name)
            first = is_convolution(module)
            target = before.output
            if module.bias is not None:
                target = target - (module.bias[:, None] if first else module.bias)
            if before.stream is not None and now.stream is not None:
                target = target + before.stream - now.stream
            mask = masks[tokens_read(walk.model, stop.name)]
            inputs, targets = counted(now.inputs, mask, first), counted(target, mask, first)
            sums[stop.name].add_pairs(inputs, targets, weights[stop.name][place])
    biased = {name: walk.model.get_submodule(name).bias is not None for name in sums}
    return {name: found.fit(centred=biased[name]) for name, found in sums.items()}
