"""Heads and neurons that zeros have silenced are removed, and no others."""

import pytest
import torch

from hfcompress.modeling.groups import groups_of
from hfcompress.pruning.silent import remove_silent
from tests.pruning.movements import answer
from tests.tiny import tiny_inputs, tiny_model


def test_a_neuron_that_is_constant_stays():
    """Without weights but with a bias it gives gelu(bias) everywhere."""
    model = tiny_model()
    layer = model.bert.encoder.layer[0]
    with torch.no_grad():
        layer.intermediate.dense.weight[:2] = 0
        layer.intermediate.dense.bias[:2] = torch.tensor([0.5, 0.0])
    inputs = tiny_inputs(model)
    expected = answer(model, inputs)
    remove_silent(model)
    assert layer.intermediate.dense.weight.shape == (63, 32)
    assert layer.intermediate.dense.bias[0] == 0.5
    torch.testing.assert_close(answer(model, inputs), expected, atol=1e-6, rtol=1e-6)


def test_a_neuron_without_weights_stays_where_its_activation_is_not_zero_at_zero():
    model = tiny_model(hidden_act="sigmoid")
    with torch.no_grad():
        model.bert.encoder.layer[0].intermediate.dense.weight[:2] = 0
        model.bert.encoder.layer[0].intermediate.dense.bias[:2] = 0
    remove_silent(model)
    assert model.bert.encoder.layer[0].intermediate.dense.weight.shape == (64, 32)


@pytest.mark.parametrize(("part", "left"), [("value", 3), ("query", 4), ("key", 4)])
def test_a_head_goes_with_its_values_not_with_its_queries(part, left):
    model = tiny_model()
    module = model.get_submodule(f"bert.encoder.layer.0.attention.self.{part}")
    with torch.no_grad():
        module.weight[8:16] = 0
        module.bias[8:16] = 0
    inputs = tiny_inputs(model)
    expected = answer(model, inputs)
    remove_silent(model)
    assert groups_of(model, ["heads"])[0].units == left
    torch.testing.assert_close(answer(model, inputs), expected, atol=1e-6, rtol=1e-6)
