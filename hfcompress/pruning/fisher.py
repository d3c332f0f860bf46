"""The `fisher` step: heads and neurons removed without training, in minutes, under a budget."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Interval

from hfcompress.allocation import Choice, choose
from hfcompress.calibration import calibration_inputs, evaluating
from hfcompress.calibration.sensitivity import Sensitivity, measure_sensitivity
from hfcompress.config import option
from hfcompress.context import Context
from hfcompress.errors import Fault, RequestError
from hfcompress.modeling.groups import Group, groups_of
from hfcompress.modeling.linear import rows_of
from hfcompress.modeling.surgery import keep_units
from hfcompress.pruning.budget import offered, unit_macs
from hfcompress.pruning.clock import time_units
from hfcompress.pruning.elimination import Elimination, eliminate
from hfcompress.pruning.rebuilding import rebuild
from hfcompress.registry import register

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

Share = Annotated[float, Interval(gt=0, le=1)]


@dataclass
class FisherConfig:
    """Options of the step: one budget, and how the model is looked at."""

    macs: Share | None = option(
        None, help="share of the layers' multiply-accumulates that is kept (at 128 tokens), such as 0.4"
    )
    parameters: Share | None = option(None, help="share of the layers' parameters that is kept")
    latency: Share | None = option(None, help="share of the layers' time that is kept, as this machine's clock has it")
    examples: Annotated[int, Ge(2)] = option(2048, help="training rows to look at the model with; labels are not used")
    batch_size: Annotated[int, Gt(0)] = option(32, help="rows in a batch")
    multiple: Annotated[int, Gt(0)] = option(16, help="neurons are kept in multiples of this")
    focus: Annotated[float, Interval(ge=0, le=1)] = option(
        0.5, help="how far tokens count by what depends on them: 0 all alike, 1 by that alone"
    )
    rebuild: bool = option(True, help="rebuild the pruned layers' outputs by least squares")

    def check(self) -> None:
        """Look across the fields.

        Raises:
            RequestError: Not exactly one budget is given.
        """
        given = [name for name in BUDGETS if getattr(self, name) is not None]
        if len(given) != 1:
            problem = f"{' and '.join(given)} are given." if given else "no budget is given."
            raise RequestError(Fault("macs", problem, f"Give one of {', '.join(BUDGETS)}, such as macs 0.4."))

    @property
    def budget(self) -> tuple[str, float]:
        """What is budgeted, and the share that is kept."""
        return next((name, getattr(self, name)) for name in BUDGETS if getattr(self, name) is not None)


BUDGETS = ("macs", "parameters", "latency")


@register("pruning", "fisher", FisherConfig)
def fisher(model: PreTrainedModel, config: FisherConfig, context: Context) -> PreTrainedModel:
    """Remove heads and neurons without training: least loss within a budget, outputs rebuilt by least squares."""
    groups = groups_of(model)
    if config.budget[1] == 1:
        return model
    costs = _costs(model, groups, config)
    readers = [group.reader.module for group in groups]
    with evaluating(model):
        inputs = calibration_inputs(model, context, config.examples, config.batch_size)
        known = measure_sensitivity(model, readers, inputs, context.task, config.focus, context.seed, context.progress)
        orders = {group.name: _eliminate(model, group, known[group.reader.module]) for group in groups}
        kept = _choose(groups, orders, costs, config)
        logger.info("kept: %s", {name: len(units) for name, units in kept.items()})
        if config.rebuild:
            rebuild(model, groups, kept, inputs, known, context.progress)
        keep_units(model, kept)
    return model


def _costs(model: PreTrainedModel, groups: list[Group], config: FisherConfig) -> dict[str, np.ndarray]:
    """Return by group what each number of units costs, `(units + 1,)`."""
    what, _ = config.budget
    if what == "latency":
        return time_units(model, groups)
    price = {"macs": lambda group: unit_macs(model, group), "parameters": lambda group: group.parameters(model)}[what]
    return {group.name: np.arange(group.units + 1) * float(price(group)) for group in groups}


def _eliminate(model: PreTrainedModel, group: Group, known: Sensitivity) -> Elimination:
    """Find the order in which a group's units go."""
    rows = rows_of(model.get_submodule(group.reader.module))
    weight = torch.block_diag(*rows) if len(rows) > 1 else rows[0]
    channels = torch.cat([group.reader.of([unit], group.units) for unit in range(group.units)])
    covariance = known.covariance[channels][:, channels]
    return eliminate(weight[:, channels], covariance, known.gradient, group.reader.of_one_unit)


def _choose(
    groups: list[Group], orders: Mapping[str, Elimination], costs: Mapping[str, np.ndarray], config: FisherConfig
) -> dict[str, list[int]]:
    """Return by group the units that stay."""
    choices = {}
    for group in groups:
        kept = offered(group, config.multiple)
        choices[group.name] = Choice(kept, orders[group.name].losses[group.units - kept], costs[group.name][kept])
    whole = sum(float(costs[group.name][-1]) for group in groups)
    numbers = choose(choices, config.budget[1] * whole)
    return {group.name: orders[group.name].kept(group.units - numbers[group.name]) for group in groups}
