"""Budgets: what units cost, and the choices that they buy."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfcompress.errors import RequestError
from hfcompress.measure.size import measure_size
from hfcompress.modeling.groups import groups_of
from hfcompress.modeling.surgery import keep_units
from hfcompress.pruning.budget import LENGTH, Choice, choose, offered, unit_macs
from hfcompress.tasks import find_task
from tests.tiny import tiny_model


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


def test_a_unit_without_biases_has_weights_alone():
    model = tiny_model()
    heads, neurons = groups_of(model)[:2]
    width = model.config.hidden_size
    head = width // model.config.num_attention_heads
    assert (heads.weights(model), heads.parameters(model)) == (4 * head * width, 4 * head * width + 3 * head)
    assert (neurons.weights(model), neurons.parameters(model)) == (2 * width, 2 * width + 1)
    assert unit_macs(model, neurons) == neurons.weights(model)
    assert unit_macs(model, heads) == heads.weights(model) + 2 * LENGTH * head


def test_a_budget_below_the_smallest_model_names_it():
    choices = {"a": Choice(np.array([1, 2]), np.array([1.0, 0.0]), np.array([5.0, 10.0]))}
    with pytest.raises(RequestError, match=r"The smallest possible model takes 0\.500"):
        choose(choices, 4)


def test_neurons_come_in_multiples_and_heads_singly():
    heads, neurons = groups_of(tiny_model())[:2]
    assert offered(heads, 16).tolist() == [0, 1, 2, 3, 4]
    assert offered(neurons, 24).tolist() == [0, 24, 48, 64]


def test_a_units_macs_are_those_that_its_removal_saves():
    task = find_task("text-classification")
    model = tiny_model(max_position_embeddings=LENGTH + 2)
    whole = measure_size(model.config, task, LENGTH).macs
    heads, neurons = groups_of(model)[:2]
    price = {group.name: unit_macs(model, group) for group in (heads, neurons)}
    keep_units(model, {heads.name: [0, 1], neurons.name: range(40)})
    saved = whole - measure_size(model.config, task, LENGTH).macs
    assert saved == LENGTH * (2 * price[heads.name] + 24 * price[neurons.name])
