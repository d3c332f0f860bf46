"""Filters: whole channels of convolutional networks are removed, and the network runs faster at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Interval

from hfcompress.calibration import Batch, calibration_batches, model_inputs
from hfcompress.config import option
from hfcompress.errors import Fault, RequestError
from hfcompress.modeling.groups import Group, groups_of
from hfcompress.modeling.surgery import keep_units
from hfcompress.pruning.batch_norms import reestimate
from hfcompress.pruning.filter_choice import Scope, Sizes, global_sizes, most_important, uniform_sizes
from hfcompress.pruning.filter_costs import Cost, count_of, macs_of
from hfcompress.pruning.filter_importance import Importance, importance_of
from hfcompress.registry import register

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from hfcompress.context import Context


@dataclass
class FiltersConfig:
    """How many filters go, and which."""

    sparsity: Annotated[float, Interval(ge=0, lt=1)] | None = option(
        None, help="share of the filters that is removed, from 0 up; or give macs"
    )
    macs: Annotated[float, Interval(gt=0, le=1)] | None = option(
        None, help="share of the multiply-accumulates that is kept, up to 1; or give sparsity"
    )
    importance: Importance = option(
        "taylor",
        help="what tells important filters: magnitude (sum of absolute weights), batch_norm (its scale), taylor (what "
        "the loss would do without the filter, to first order; needs labels)",
    )
    scope: Scope = option(
        "global",
        help="global (filters of all layers compete; with taylor and macs by loss for what each saves) or uniform "
        "(each layer keeps the same share, up to rounding)",
    )
    round_to: Annotated[int, Ge(1)] = option(
        8,
        help="a pruned layer keeps a multiple of so many filters, at least once that: processors work on 8 at a time, "
        "and odd counts can be slower than more filters",
    )
    recalibrate: bool = option(True, help="estimate the batch norms' statistics anew on calibration rows")
    examples: Annotated[int, Ge(2)] = option(512, help="training rows for calibration")
    batch_size: Annotated[int, Ge(2)] = option(32, help="calibration rows in a batch")

    def check(self) -> None:
        """Look across the fields.

        Raises:
            RequestError: There is no budget, or there are two.
        """
        if (self.sparsity is None) == (self.macs is None):
            given = "neither is given" if self.macs is None else f"got {self.sparsity:g} and {self.macs:g}"
            raise RequestError(
                Fault("sparsity", f"give either sparsity or macs: {given}.", "For half the work: macs 0.5.")
            )


@register("pruning", "filters", FiltersConfig)
def filters(model: PreTrainedModel, config: FiltersConfig, context: Context) -> PreTrainedModel:
    """Remove whole filters of a ResNet or MobileNet, with everything that shortcuts tie to them.

    Every layer keeps at least one: without any, nothing would reach the layers behind it.

    Raises:
        ModelError: The model has no filters that could be removed.
        RequestError: The budget is below the smallest possible model.
    """
    groups = groups_of(model, ("filters",))
    training = model.training
    model.eval()
    sizes = Sizes(groups, config.round_to)
    cost = _cost(model, groups, config, context)
    budget = _budget(sizes, cost, config)
    batches = _rows(model, config, context)
    scores = importance_of(model, groups, config.importance, context, batches)
    if config.scope == "uniform":
        units = uniform_sizes(sizes, cost, budget)
    else:  # a loss can be weighed against the work that it saves, a size of weights cannot
        price = cost if config.importance == "taylor" else count_of(groups)
        units = global_sizes(sizes, cost, budget, scores, price)
    kept = {
        group.name: most_important(scores[group.name], units[group.name])
        for group in groups
        if units[group.name] < group.units
    }
    if kept:
        keep_units(model, kept)
        if config.recalibrate:
            reestimate(model, [model_inputs(model, context, batch) for batch in batches])
    return model.train(training)


def _cost(model: PreTrainedModel, groups: Sequence[Group], config: FiltersConfig, context: Context) -> Cost:
    """Return what the budget limits: filters, or multiply-accumulates."""
    if config.macs is None:
        return count_of(groups)
    return macs_of(model, groups, context.task.example_inputs(model.config, 1, 0))


def _budget(sizes: Sizes, cost: Cost, config: FiltersConfig) -> float:
    """Return the most that the pruned model may cost.

    Raises:
        RequestError: Less is asked for than the smallest possible model costs.
    """
    total, fewest = cost.of(sizes.largest), cost.of(sizes.smallest)
    share = 1 - config.sparsity if config.sparsity is not None else config.macs or 1.0
    budget = share * total * (1 + 1e-9)  # 1 - 0.9 is a little less than 0.1
    if fewest <= budget:
        return budget
    count = "1 filter" if config.round_to == 1 else f"{config.round_to} filters"
    keeps = f"each layer keeps at least {count} (round_to), so that"
    smaller = " or a smaller round_to" if config.round_to > 1 else ""
    if config.sparsity is not None:
        most = math.floor((1 - fewest / total) * 1000) / 1000
        problem = f"{config.sparsity:g} is too much: {keeps} at most {most:g} of the filters can go."
        raise RequestError(Fault("sparsity", problem, f"Give at most {most:g}{smaller}."))
    least = math.ceil(fewest / total * 1000) / 1000
    problem = f"{share:g} is below the smallest possible model: {keeps} {least:g} of the multiply-accumulates remain."
    raise RequestError(Fault("macs", problem, f"Give at least {least:g}{smaller}."))


def _rows(model: PreTrainedModel, config: FiltersConfig, context: Context) -> list[Batch]:
    """Draw the calibration rows that the config needs, if any."""
    if config.importance == "taylor":
        return calibration_batches(model, context, config.examples, config.batch_size, labelled=True)
    return calibration_batches(model, context, config.examples, config.batch_size) if config.recalibrate else []
