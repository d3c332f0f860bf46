"""Sharing a budget out: for each of several parts one of its choices, so that all together lose the least."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hfcompress.errors import Fault, RequestError


@dataclass(frozen=True)
class Choice:
    """What can be done with one part of a model.

    Args:
        kept: How much of it could be kept (units, a rank), ascending, `(choices,)`.
        losses: What each of them loses, `(choices,)`.
        costs: What each of them costs, `(choices,)`.
    """

    kept: np.ndarray
    losses: np.ndarray
    costs: np.ndarray


def choose(choices: Mapping[str, Choice], budget: float) -> dict[str, int]:
    """Choose for each part how much to keep so that all together lose the least within a budget.

    Lagrangian relaxation: for a price `λ` of cost each part takes `argmin loss + λ · cost` by itself; `λ` is found by
    bisection (Everett 1963). What is left of the budget then goes to the steps that save the most loss per cost.

    Args:
        choices: By part.
        budget: Of the costs' sum.

    Returns:
        How much is kept, by part.

    Raises:
        RequestError: Not even the cheapest choices fit into the budget.
    """
    least = sum(float(choice.costs.min()) for choice in choices.values())
    whole = sum(float(choice.costs[-1]) for choice in choices.values())
    if least > budget:
        problem = f"the budget is {budget / whole:.3f} of what the layers cost."
        raise RequestError(Fault("budget", problem, f"The smallest possible model takes {least / whole:.3f}."))
    cheap, dear = 0.0, 1.0
    while _cost(choices, _at(choices, dear)) > budget:
        dear *= 4
    for _ in range(100):
        middle = (cheap + dear) / 2
        if _cost(choices, _at(choices, middle)) > budget:
            cheap = middle
        else:
            dear = middle
    places = _fill(choices, _at(choices, dear), budget)
    return {name: int(choices[name].kept[place]) for name, place in places.items()}


def _at(choices: Mapping[str, Choice], price: float) -> dict[str, int]:
    """Return each part's best choice at a price of cost; of equal ones the smallest."""
    return {name: int(np.argmin(choice.losses + price * choice.costs)) for name, choice in choices.items()}


def _cost(choices: Mapping[str, Choice], places: Mapping[str, int]) -> float:
    return sum(float(choices[name].costs[place]) for name, place in places.items())


def _fill(choices: Mapping[str, Choice], places: dict[str, int], budget: float) -> dict[str, int]:
    """Spend what is left of a budget, step by step where it saves the most loss per cost."""
    places = dict(places)
    left = budget - _cost(choices, places)
    while True:
        steps = []
        for name, place in places.items():
            choice = choices[name]
            for higher in range(place + 1, len(choice.kept)):
                cost, gain = choice.costs[higher] - choice.costs[place], choice.losses[place] - choice.losses[higher]
                if cost <= left and gain > 0:
                    steps.append((gain / max(cost, 1e-12), name, higher, cost))
        if not steps:
            return places
        _, name, place, cost = max(steps)
        places[name] = place
        left -= cost
