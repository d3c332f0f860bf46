"""Sharing a budget out: within it, and near the best."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfcompress.allocation import Choice, choose
from hfcompress.errors import RequestError


def choice(losses, costs):
    return Choice(np.arange(len(losses)), np.asarray(losses, dtype=float), np.asarray(costs, dtype=float))


def spent(choices, kept):
    return sum(choices[name].costs[count] for name, count in kept.items())


def lost(choices, kept):
    return sum(choices[name].losses[count] for name, count in kept.items())


def test_buys_where_the_loss_falls_most():
    choices = {"a": choice([10, 1, 0], [0, 1, 2]), "b": choice([3, 2, 0], [0, 1, 2])}
    assert choose(choices, 2) == {"a": 1, "b": 1} or choose(choices, 2) == {"a": 1, "b": 0}
    assert choose(choices, 4) == {"a": 2, "b": 2}
    assert choose(choices, 0) == {"a": 0, "b": 0}
    assert choose(choices, 1) == {"a": 1, "b": 0}


@given(st.lists(st.lists(st.floats(0, 5), min_size=2, max_size=4), min_size=1, max_size=3), st.floats(0.1, 1))
@settings(max_examples=60, deadline=None)
def test_stays_within_the_budget_and_near_the_best(steps, share):
    choices = {}
    for number, sizes in enumerate(steps):
        losses = np.cumsum(sizes[::-1])[::-1] - sizes[-1]
        choices[str(number)] = choice(losses, np.arange(len(sizes)))
    budget = share * sum(one.costs[-1] for one in choices.values())
    kept = choose(choices, budget)
    assert spent(choices, kept) <= budget + 1e-9
    every = itertools.product(*(range(len(one.kept)) for one in choices.values()))
    best = min(lost(choices, dict(zip(choices, pick, strict=True))) for pick in every
               if spent(choices, dict(zip(choices, pick, strict=True))) <= budget)  # fmt: skip
    assert lost(choices, kept) <= best + max(max(sizes) for sizes in steps) * len(steps) + 1e-9


def test_a_budget_below_the_smallest_model_names_it():
    choices = {"a": Choice(np.array([1, 2]), np.array([1.0, 0.0]), np.array([5.0, 10.0]))}
    with pytest.raises(RequestError, match=r"The smallest possible model takes 0\.500"):
        choose(choices, 4)
