"""Which of a model's linear layers become low-rank, and at what rank."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from hfcompress.errors import Fault, RequestError
from hfcompress.factorization.clock import time_ranks
from hfcompress.factorization.ranks import Budget, Ranked, RankOptions, break_even, choose_ranks
from hfcompress.modeling.linear import channels_in, channels_out
from hfcompress.modeling.low_rank import whole_name
from hfcompress.modeling.targets import TargetOptions, refuse_nan

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

KINDS = (nn.Linear, Conv1D)
"""What these methods factorize."""


@dataclass
class LinearOptions(TargetOptions, RankOptions):
    """Which linear layers are factorized, and how far; a base of the methods' configs."""

    def check(self) -> None:
        """Look across the fields.

        Raises:
            RequestError: Not exactly one of the ways to choose ranks is given.
        """
        self.check_ranks()

    def layers_of(self, model: PreTrainedModel) -> dict[str, nn.Module]:
        """Return the layers to factorize, by name.

        Raises:
            RequestError: The filters match nothing, only one side of a tie, or what is of low rank already.
            ModelError: Weights are NaN or infinite, or the architecture has no row and no modules are named.
        """
        found = self.chosen(model, KINDS)
        thin = dict.fromkeys(whole_name(model, name) for name in found if whole_name(model, name) != name)
        if thin:
            problem = f"{len(thin)} of these layers are of low rank already, such as '{next(iter(thin))}'."
            fix = "Exclude them, or multiply them out first: hfcompress.merge(model)."
            raise RequestError(Fault("exclude", problem, fix))
        refuse_nan(found)
        return found


def ranks_for(
    layers: Mapping[str, nn.Module], losses: Mapping[str, Tensor], options: RankOptions
) -> dict[str, int | None]:
    """Return each layer's rank; None for one that stays as it is.

    Args:
        layers: The layers, by name.
        losses: Of each what is lost at rank 0, 1, 2, …, comparable from layer to layer where there is a budget.
        options: How ranks are chosen.

    Raises:
        RequestError: The budget is below that of the smallest ranks.
    """
    what = options.budget[0] if options.budget else "parameters"
    times: dict[tuple[int, int], tuple[np.ndarray, float]] = {}
    known = {name: _ranked(module, losses[name], what, times) for name, module in layers.items()}
    ranks = choose_ranks(known, options)
    dense = [name for name, rank in ranks.items() if rank is None]
    if dense:
        logger.info("left as they are, since they would not gain: %s", ", ".join(dense))
    return ranks


def _ranked(
    module: nn.Module, losses: Tensor, what: Budget, times: dict[tuple[int, int], tuple[np.ndarray, float]]
) -> Ranked:
    """Return what is known of a layer; a text's tokens each take as many multiply-accumulates as it has weights."""
    outputs, inputs = shape = channels_out(module), channels_in(module)
    largest = int(np.ceil(break_even(outputs, inputs))) - 1
    if what != "latency":
        costs = np.arange(largest + 1) * float(outputs + inputs)
        return Ranked(outputs, inputs, losses.cpu().numpy(), costs, float(outputs * inputs))
    if shape not in times:
        times[shape] = time_ranks(outputs, inputs, largest)
    return Ranked(outputs, inputs, losses.cpu().numpy(), *times[shape])
