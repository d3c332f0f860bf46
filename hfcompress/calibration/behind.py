"""What a layer takes behind all that was compressed before it, and what it should give there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hfcompress.calibration.least_squares import Fit, PairSums
from hfcompress.calibration.walk import Seen, Stop, Walk
from hfcompress.modeling.linear import is_convolution, matrix
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
            module: Any = walk.model.get_submodule(stop.name)
            first, mask = is_convolution(module), masks[tokens_read(walk.model, stop.name)]
            now: Any = seen[stop.name]
            inputs, target = now.inputs, _target(module, walk.before(place, stop), now)
            pair = (counted(inputs, mask, first), counted(target, mask, first))
            sums[stop.name].add_pairs(*pair, weights[stop.name][place])
    return {name: _fit(walk.model.get_submodule(name), found) for name, found in sums.items()}


def _target(module: Any, before: Seen, now: Seen) -> Any:
    """Return what a layer should give without its bias, or what it was given where that alone is known."""
    if before.output is None:
        return before.inputs
    target = before.output
    if module.bias is not None:
        target = target - (module.bias[:, None] if is_convolution(module) else module.bias)
    if before.stream is not None and now.stream is not None:
        target = target + before.stream - now.stream
    return target


def _fit(module: Any, sums: PairSums) -> Fit:
    """Return the moments; where the targets are inputs, those of what the layer makes of them."""
    fit = sums.fit(centred=module.bias is not None)
    weight = matrix(module).double()
    if len(fit.target_mean) == len(weight):
        return fit
    return Fit(fit.mean, fit.covariance, weight @ fit.target_mean, fit.products @ weight.T)
