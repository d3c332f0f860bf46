"""What a movement config refuses, and which weights it chooses."""

import pytest

from hfcompress.config import parse
from hfcompress.errors import ModelError, RequestError
from hfcompress.pruning.movement import MovementConfig
from tests.pruning.movements import pruner_of
from tests.tiny import tiny_head, tiny_model


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "sparsity: is missing"),
        ({"sparsity": 1.0}, "sparsity: input should be less than 1"),
        ({"variant": "soft", "sparsity": 0.5}, "sparsity: does nothing with variant soft"),
        ({"sparsity": 0.5, "regularization": 3}, "regularization: does nothing with variant hard"),
        ({"sparsity": 0.5, "block": [4, 4]}, "block: does nothing with structure none"),
        ({"sparsity": 0.5, "structure": "block", "block": [4]}, "block: list should have at least 2 items"),
        ({"sparsity": 0.5, "structure": "block", "block": [4, 0]}, "greater than or equal to 1"),
        ({"sparsity": 0.5, "structure": "rows"}, "structure"),
        ({"variant": "soft", "warmup": 0.6, "cooldown": 0.6}, "leave no part of it"),
        ({"sparsity": 0.5, "initial_sparsity": 0.6}, "above the final sparsity"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(RequestError, match=message):
        parse(MovementConfig, options)


def test_an_architecture_without_heads_is_refused():
    with pytest.raises(ModelError, match="resnet has no heads"):
        parse(MovementConfig, {"sparsity": 0.5, "structure": "heads"}).build(tiny_head("resnet"))


def test_weights_that_are_not_numbers_are_refused():
    model = tiny_model()
    model.bert.encoder.layer[0].output.dense.weight.data[0, 0] = float("nan")
    with pytest.raises(ModelError, match="NaN or infinite"):
        parse(MovementConfig, {"sparsity": 0.5}).build(model)


def test_filters_choose_layers():
    model = tiny_model()
    pruner = pruner_of(model, sparsity=0.5, structure="heads_and_neurons", layers=[1], exclude=["*.attention.*"])
    assert [one.name for one in pruner._scored] == ["encoder.layer.1.neurons"]
