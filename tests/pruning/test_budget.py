"""Budgets: what units cost, and how many may stay."""

from hfcompress.measure.size import measure_size
from hfcompress.modeling.groups import groups_of
from hfcompress.modeling.surgery import keep_units
from hfcompress.pruning.budget import LENGTH, offered, unit_macs
from hfcompress.tasks import find_task
from tests.tiny import tiny_model


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
