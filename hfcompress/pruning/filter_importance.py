"""How important a filter is: by its weights, by its batch norm, by what the loss does without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from hfcompress.calibration import model_inputs
from hfcompress.errors import Fault, ModelError
from hfcompress.modeling.groups import Group
from hfcompress.modeling.linear import matrix, weight_of
from hfcompress.modeling.masking import masked

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from hfcompress.calibration import Batch
    from hfcompress.context import Context

Importance = Literal["magnitude", "batch_norm", "taylor"]

_TINY = 1e-30
"""For groups whose scales are all 0."""


def magnitude(model: PreTrainedModel, groups: Sequence[Group]) -> dict[str, Tensor]:
    """Return the sum of the absolute weights of each filter, `(units,)` by group name.

    Li et al. 2017, "Pruning Filters for Efficient ConvNets" (arXiv 1608.08710), section 3.1: `s_j = Σ |F_{i,j}|`. Where
    shortcuts tie the filters of several layers, their sums add up.
    """
    found = {}
    for group in groups:
        weights = [matrix(model.get_submodule(channels.module)) for channels in group.writers]
        found[group.name] = torch.stack([weight.abs().sum(1) for weight in weights]).sum(0)
    return found


def batch_norm(model: PreTrainedModel, groups: Sequence[Group]) -> dict[str, Tensor]:
    """Return the size of each filter's scale in the batch norms, `|γ|`, `(units,)` by group name.

    Liu et al. 2017, "Learning Efficient Convolutional Networks through Network Slimming" (arXiv 1708.06519), section 3.
    Of several batch norms in a group the mean counts.
    """
    found = {}
    for group in groups:
        between = [model.get_submodule(channels.module) for channels in group.between]
        scales = [weight_of(module).detach().abs() for module in between if isinstance(module, nn.BatchNorm2d)]
        found[group.name] = torch.stack(scales).mean(0)
    return found


def taylor(
    model: PreTrainedModel, groups: Sequence[Group], context: Context, batches: Sequence[Batch]
) -> dict[str, Tensor]:
    """Return how much the loss would change, to first order and squared, without each filter.

    Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning" (arXiv 1906.10771), section 3, for a gate
    `m = 1` behind each filter: `I_m = (∂E/∂m · m)²`, summed over examples.

    Args:
        model: The model, in evaluation mode.
        groups: Its groups of filters.
        context: Gives the task.
        batches: Labelled rows.

    Returns:
        By group name, `(units,)`.
    """
    total = {group.name: torch.zeros(group.units, device=model.device) for group in groups}
    for batch in batches:
        inputs = model_inputs(model, context, batch, labels=True)
        rows = len(inputs[model.main_input_name])
        gates = {name: torch.ones(rows, len(sums), device=sums.device).requires_grad_() for name, sums in total.items()}
        with masked(model, groups, gates):
            loss = model(**inputs).loss * rows
        for name, gradient in zip(gates, torch.autograd.grad(loss, list(gates.values())), strict=True):
            total[name] += gradient.square().sum(0)
    return total


def importance_of(
    model: PreTrainedModel, groups: Sequence[Group], kind: Importance, context: Context, batches: Sequence[Batch]
) -> dict[str, Tensor]:
    """Return the importance of each filter, `(units,)` by group name, on the CPU.

    Sizes of weights say something beside their like alone: they are divided by their group's mean. Taylor's scores are
    losses, in all groups alike.

    Raises:
        ModelError: Some are not numbers.
    """
    if kind == "taylor":
        found = taylor(model, groups, context, batches)
    else:
        sizes = magnitude(model, groups) if kind == "magnitude" else batch_norm(model, groups)
        found = {name: scores / scores.mean().clamp(min=_TINY) for name, scores in sizes.items()}
    wrong = [name for name, scores in found.items() if not torch.isfinite(scores).all()]
    if wrong:
        problem = f"the importance of '{wrong[0]}' is NaN or infinite: so are weights, or the loss of some row."
        raise ModelError(Fault("importance", problem, "Start from a sound checkpoint and from labels that it knows."))
    return {name: scores.float().cpu() for name, scores in found.items()}
