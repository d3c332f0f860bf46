"""Which rank each layer gets: one for all, one share for all, an energy, or a budget shared out where it saves most."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Gt, Interval

from hfcompress.allocation import Choice, choose
from hfcompress.config import option
from hfcompress.errors import Fault, RequestError

Share = Annotated[float, Interval(gt=0, le=1)]
Budget = Literal["parameters", "macs", "latency"]

_OPTION: dict[Budget, str] = {"parameters": "target_params", "macs": "target_macs", "latency": "target_latency"}
"""The option that budgets each."""

_DENSE = np.iinfo(np.int64).max
"""Stands for a layer that stays as it is, where ranks are offered to a budget."""


@dataclass
class RankOptions:
    """How ranks are chosen: one of these, and the multiple that they come in."""

    rank: Annotated[int, Gt(0)] | None = option(None, help="the rank of every layer")
    rank_ratio: Share | None = option(
        None, help="rank of every layer as a share of the rank at which its two thin matrices are as large as it is"
    )
    energy: Share | None = option(None, help="the smallest rank that keeps this share of what a layer gives: 0.99")
    target_params: Share | None = option(None, help="share of the layers' parameters that is kept, ranks as pay best")
    target_macs: Share | None = option(None, help="share of the layers' multiply-accumulates that is kept")
    target_latency: Share | None = option(None, help="share of the layers' time that is kept, by this machine's clock")
    multiple: Annotated[int, Gt(0)] = option(8, help="ranks are multiples of this")

    def check_ranks(self) -> None:
        """Look across the fields.

        Raises:
            RequestError: Not exactly one of the ways to choose is given.
        """
        given = [name for name in CHOICES if getattr(self, name) is not None]
        if len(given) != 1:
            problem = f"{' and '.join(given)} are given." if given else "nothing says what the ranks are to be."
            raise RequestError(Fault("target_params", problem, f"Give one of {', '.join(CHOICES)}; target_params 0.6."))

    @property
    def budget(self) -> tuple[Budget, float] | None:
        """What is budgeted, and the share that is kept; None where ranks are chosen layer by layer."""
        shares: dict[Budget, float | None] = {what: getattr(self, option) for what, option in _OPTION.items()}
        return next(((what, share) for what, share in shares.items() if share is not None), None)


CHOICES = ("rank", "rank_ratio", "energy", "target_params", "target_macs", "target_latency")


@dataclass(frozen=True)
class Ranked:
    """What is known of one layer.

    Args:
        outputs: Its outputs.
        inputs: Its inputs.
        losses: What is lost at rank 0, 1, 2, …, `(full rank + 1,)`.
        costs: What rank 0, 1, 2, … up to the last one below break-even costs of the budget, `(ranks,)`.
        dense_cost: What it costs as it is.
    """

    outputs: int
    inputs: int
    losses: np.ndarray
    costs: np.ndarray
    dense_cost: float

    @property
    def largest(self) -> int:
        """The largest rank below break-even."""
        return len(self.costs) - 1


def break_even(outputs: int, inputs: int) -> float:
    """Return the rank `mn / (m + n)` at which two thin matrices are as large as the one."""
    return outputs * inputs / (outputs + inputs)


def largest_rank(outputs: int, inputs: int) -> int:
    """Return the largest rank at which two thin matrices have fewer parameters than the one, 0 where none has."""
    return (outputs * inputs - 1) // (outputs + inputs)


def choose_ranks(layers: Mapping[str, Ranked], options: RankOptions) -> dict[str, int | None]:
    """Choose each layer's rank; None for a layer that stays as it is, since it would not gain.

    Args:
        layers: By name.
        options: How.

    Raises:
        RequestError: The budget is less than what the smallest ranks cost; the best that can be had is offered.
    """
    if options.budget is None:
        return {name: _rank_of(layer, options) for name, layer in layers.items()}
    what, share = options.budget
    whole = sum(layer.dense_cost for layer in layers.values())
    offers = {name: _offer(layer, options) for name, layer in layers.items()}
    least = sum(float(offer.costs.min()) for offer in offers.values()) / whole
    if share < least:
        problem = f"{share:g} of the layers' {what} cannot be met."
        raise RequestError(Fault(_OPTION[what], problem, _best(least, options.multiple)))
    chosen = choose(offers, share * whole)
    return {name: None if rank == _DENSE else rank for name, rank in chosen.items()}


def _best(least: float, multiple: int) -> str:
    """Say what can be had where a budget cannot be met."""
    if least >= 1:
        smaller = f" Give a multiple below {multiple}, or other layers." if multiple > 1 else " Choose other layers."
        return f"None of what may be chosen costs less than the layers as they are.{smaller}"
    best = f"The smallest possible model takes {math.ceil(1000 * least) / 1000:g}: give that or more"
    return best + (", or a smaller multiple." if multiple > 1 else ".")


def _rank_of(layer: Ranked, options: RankOptions) -> int | None:
    """Return a layer's rank where each is chosen by itself."""
    if options.rank is not None:
        rank = options.rank
    elif options.rank_ratio is not None:
        wanted = options.rank_ratio * break_even(layer.outputs, layer.inputs)
        rank = max(options.multiple, int(wanted) // options.multiple * options.multiple)
    else:
        lost = (1 - (options.energy or 1)) * layer.losses[0]
        enough = int(np.argmax(layer.losses <= lost))
        rank = max(1, -(-enough // options.multiple)) * options.multiple
    return rank if rank <= layer.largest else None


def _offer(layer: Ranked, options: RankOptions) -> Choice:
    """Return the ranks that a budget can buy, each cheaper than the layer as it is, and that last."""
    ranks = np.arange(options.multiple, layer.largest + 1, options.multiple)
    ranks = ranks[layer.costs[ranks] < layer.dense_cost]
    return Choice(
        np.append(ranks, _DENSE),
        np.append(layer.losses[ranks], 0.0),
        np.append(layer.costs[ranks], layer.dense_cost),
    )
