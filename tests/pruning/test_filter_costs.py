"""The cost of filters: the same multiply-accumulates as a counter finds when the pruned network runs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from hfcompress.modeling.groups import groups_of
from hfcompress.modeling.surgery import keep_units
from hfcompress.pruning.filter_costs import Cost, Product, count_of, macs_of
from tests.pruning.images import MOBILENET, RESNET, TASK, network


def counted(model):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(**TASK.example_inputs(model.config, 1, 0))
    return counter.get_total_flops() // 2


def cost_of(model, groups):
    return macs_of(model, groups, TASK.example_inputs(model.config, 1, 0))


def test_products_by_hand():
    cost = Cost([Product(5, ("a",)), Product(2, ("a", "b")), Product(7, ())])
    assert cost.of({"a": 3, "b": 4}) == 15 + 24 + 7
    assert cost.saved({"a": 3, "b": 4}, "a", 1) == 10 + 16
    assert cost.saved({"a": 3, "b": 4}, "b", 1) == 2 * 3 * 3


@pytest.mark.parametrize("shape", [RESNET, MOBILENET, "shape:resnet-50;width=0.0625;image_size=16"])
@settings(max_examples=2, deadline=None)
@given(st.randoms(use_true_random=False))
def test_a_pruned_network_multiplies_as_often_as_the_cost_says(shape, random):
    model = network(shape)
    groups = groups_of(model, ("filters",))
    cost = cost_of(model, groups)
    assert cost.of({group.name: group.units for group in groups}) == counted(model)
    left = {group.name: random.randint(1, group.units) for group in groups}
    keep_units(model, {name: list(range(units)) for name, units in left.items()})
    assert cost.of(left) == counted(model)
    assert cost_of(model, groups_of(model, ("filters",))).of(left) == counted(model)
    assert not any(module._forward_hooks for module in model.modules())


def test_counting_units():
    groups = groups_of(network(), ("filters",))
    units = {group.name: group.units for group in groups}
    assert count_of(groups).of(units) == sum(units.values())
    assert count_of(groups).saved(units, groups[0].name, 1) == groups[0].units - 1
