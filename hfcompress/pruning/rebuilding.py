"""Rebuilding the outputs of pruned layers by least squares, layer by layer, from the units that are left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from hfcompress.calibration.behind import fits_behind
from hfcompress.calibration.least_squares import Fit, regression
from hfcompress.calibration.sensitivity import Sensitivity
from hfcompress.calibration.walk import Stop, Walk, can_walk
from hfcompress.modeling.families import stacks_of
from hfcompress.modeling.groups import Group
from hfcompress.modeling.linear import rows_of
from hfcompress.modeling.low_rank import whole_name

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from hfcompress.calibration import Batch
    from hfcompress.modeling.blocks import Blocks


@torch.no_grad()
def rebuild(
    model: PreTrainedModel,
    groups: Sequence[Group],
    kept: Mapping[str, Sequence[int]],
    batches: Sequence[Batch],
    sensitivity: Mapping[str, Sensitivity],
    progress: bool = False,
) -> None:
    """Silence the units that go, in place, and let each reader give from the others what it gave before.

    The weights are those of a ridge regression towards the dense weights: with the inputs `x` of the units that stay,
    behind all that was pruned and rebuilt before, and the target `t = W x + (r − r')`: the dense model's output there
    and what the residual stream has lost so far. `W' = (E[t xᵀ] + λ W)(E[x xᵀ] + λ)⁻¹`, centred, bias from the means;
    tokens count as `sensitivity` weighs them. (Kwon et al. 2022, arXiv 2204.09656, section 3.4, tune one scale a unit
    towards the dense output; here it is the whole matrix, and the stream behind it.)

    Args:
        model: The dense model; the readers' weights change, columns of units that go become 0.
        groups: Its groups.
        kept: By group name the units that stay.
        batches: What the model is called with.
        sensitivity: Of each reader, on the same batches in the same order.
        progress: Show a bar on stderr.
    """
    todo = [group for group in groups if len(kept[group.name]) < group.units]
    weights = {name: known.weights for name, known in sensitivity.items()}
    bar = tqdm(total=len(todo), desc="rebuilding", unit="group", disable=not progress)
    for blocks, layers in stacks_of(model):
        if not can_walk(model, blocks, layers, batches[0]):
            for group in _inside(todo, model, layers):
                _rebuild_at_once(model, group, kept[group.name], sensitivity[group.reader.module])
                bar.update()
            continue
        walk = Walk(model, batches, blocks, layers)
        for number, layer in enumerate(layers):
            own = _inside(groups, model, [layer])
            stops = [_stop(model, group, blocks) for group in own]
            walk.enter(number, stops)
            for place, group in enumerate(own):
                if group in todo:
                    (fit,) = fits_behind(walk, number, stops[:place], stops[place : place + 1], weights).values()
                    _solve(model.get_submodule(group.reader.module), group, kept[group.name], fit)
                    bar.update()
            walk.leave(number)
    bar.close()


def _stop(model: PreTrainedModel, group: Group, blocks: Blocks) -> Stop:
    """Return where to look for a group: at its reader, whose outputs mostly go to the stream that its writers read."""
    reader = group.reader.module
    # What a bottleneck's layers add to is narrower than the stream; half a low-rank layer adds to nothing.
    alone = blocks.bottleneck or whole_name(model, reader) != reader
    return Stop(reader, None if alone else group.writers[0].module)


def _inside(groups: Sequence[Group], model: PreTrainedModel, layers: Any) -> list[Group]:
    modules = {id(module) for layer in layers for module in layer.modules()}
    return [group for group in groups if id(model.get_submodule(group.reader.module)) in modules]


def _rebuild_at_once(model: PreTrainedModel, group: Group, units: Sequence[int], known: Sensitivity) -> None:
    """Rebuild a reader from the dense model's statistics alone."""
    module = model.get_submodule(group.reader.module)
    rows = rows_of(module).double()
    products = _apply(rows, known.covariance).T
    _solve(module, group, units, Fit(known.mean, known.covariance, _apply(rows, known.mean), products))


def _apply(rows: Tensor, values: Tensor) -> Tensor:
    """Multiply a reader's weight, as rows `(groups, outputs, inputs)`, with `(channels, …)`."""
    parts = values.unflatten(0, (len(rows), -1))
    return torch.cat([row @ part for row, part in zip(rows, parts, strict=True)])


def _solve(module: nn.Module, group: Group, units: Sequence[int], fit: Fit) -> None:
    """Set a reader's weight and bias; channels of units that go get 0."""
    rows = rows_of(module)
    per_group, outputs = rows.shape[2], rows.shape[1]
    stays = torch.zeros(rows.shape[0] * per_group, dtype=torch.bool)
    stays[group.reader.of(units, group.units)] = True
    shift = fit.target_mean.clone()
    for number, row in enumerate(rows):
        channels = torch.arange(per_group)[stays[number * per_group :][:per_group]] + number * per_group
        wanted = slice(number * outputs, (number + 1) * outputs)
        dense = row.double()[:, channels - number * per_group].T
        new = regression(fit.covariance[channels][:, channels], fit.products[channels][:, wanted], dense)
        row.zero_()
        row[:, channels - number * per_group] = new.T.to(row.dtype)
        shift[wanted] -= new.T @ fit.mean[channels]
    bias: Any = module.bias
    if bias is not None:
        bias += shift.to(bias.dtype)
