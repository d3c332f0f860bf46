"""Rebuilding the outputs of pruned layers by least squares, layer by layer, from the units that are left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from hfcompress.modeling.families import stacks_of
from hfcompress.modeling.groups import Group
from hfcompress.modeling.linear import is_convolution, rows_of
from hfcompress.modeling.statistics import counted, token_masks, tokens_read
from hfcompress.pruning.elimination import ridge
from hfcompress.pruning.sensitivity import Sensitivity, WeightedSums
from hfcompress.pruning.walk import Walk, can_walk

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from hfcompress.calibration import Batch


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
        sensitivity: Of each group, on the same batches in the same order.
        progress: Show a bar on stderr.
    """
    todo = [group for group in groups if len(kept[group.name]) < group.units]
    bar = tqdm(total=len(todo), desc="rebuilding", unit="group", disable=not progress)
    for blocks, layers in stacks_of(model):
        if not can_walk(model, blocks, layers, batches[0]):
            for group in _inside(todo, model, layers):
                _rebuild_at_once(model, group, kept[group.name], sensitivity[group.name])
                bar.update()
            continue
        walk = Walk(model, batches, blocks, layers)
        for number, layer in enumerate(layers):
            own = _inside(groups, model, [layer])
            walk.enter(number, own)
            for place, group in enumerate(own):
                if group in todo:
                    fit = _fit(walk, number, own[: place + 1], sensitivity[group.name])
                    _solve(model.get_submodule(group.reader.module), group, kept[group.name], fit)
                    bar.update()
            walk.leave(number)
    bar.close()


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


@dataclass
class Fit:
    """Moments that a regression needs.

    Args:
        mean: Of the inputs, `(channels,)`.
        covariance: Of the inputs, `(channels, channels)`.
        target_mean: Of the targets, `(outputs,)`, the bias not counted.
        products: Covariance of inputs and targets, `(channels, outputs)`.
    """

    mean: Tensor
    covariance: Tensor
    target_mean: Tensor
    products: Tensor


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
        new = _regression(fit.covariance[channels][:, channels], fit.products[channels][:, wanted], dense)
        row.zero_()
        row[:, channels - number * per_group] = new.T.to(row.dtype)
        shift[wanted] -= new.T @ fit.mean[channels]
    bias: Any = module.bias
    if bias is not None:
        bias += shift.to(bias.dtype)


def _regression(covariance: Tensor, products: Tensor, dense: Tensor) -> Tensor:
    """Return the weights `(channels, outputs)` of a ridge regression that shrinks towards the dense ones."""
    if not len(covariance):
        return dense
    extra = ridge(covariance)
    return torch.linalg.solve(covariance + extra, products + extra @ dense)


@dataclass
class _Sums(WeightedSums):
    """Sums over inputs and targets."""

    targets: Any = 0.0
    products: Any = 0.0

    def add_pairs(self, inputs: Tensor, targets: Tensor, weights: Tensor) -> None:
        """Take more tokens `(tokens, …)` into account."""
        weighted = self.add(inputs, weights)
        self.targets = self.targets + (targets * weights[:, None]).sum(0).double()
        self.products = self.products + (weighted.T @ targets).double()

    def fit(self, centred: bool) -> Fit:
        """Return means and covariances; not centred, as a layer without a bias needs them, about 0."""
        mean, covariance = self.moments(centred)
        target = self.targets / self.count * centred
        return Fit(mean, covariance, target, self.products / self.count - torch.outer(mean, target))


def _fit(walk: Walk, number: int, groups: Sequence[Group], known: Sensitivity) -> Fit:
    """Return the moments for the last of a layer's groups, behind all that was rebuilt before."""
    name = groups[-1].reader.module
    module = walk.model.get_submodule(name)
    bias: Any = module.bias
    channels_first, reads = is_convolution(module), tokens_read(walk.model, name)
    sums = _Sums()
    for place, batch in enumerate(walk.batches):
        theirs, ours = walk.before(place, groups[-1]), walk.now(number, place, groups)
        target = theirs.output if bias is None else theirs.output - (bias[:, None] if channels_first else bias)
        if not walk.blocks.bottleneck:  # what those add to is narrower than the stream
            target = target + theirs.stream - ours.stream
        mask = token_masks(walk.model, batch)[reads]
        inputs, targets = counted(ours.inputs, mask, channels_first), counted(target, mask, channels_first)
        sums.add_pairs(inputs, targets, known.weights[place])
    return sums.fit(centred=bias is not None)
