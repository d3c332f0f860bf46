"""Fisher-weighted factorization: the information of an input by the definition, and a model's reload."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from hfcompress.calibration import calibration_batches, model_inputs
from hfcompress.config import parse
from hfcompress.factorization.fwsvd import FwsvdConfig, fwsvd, input_information
from hfcompress.modeling.low_rank import LowRankLinear
from hfcompress.tasks import find_task
from tests.pruning.contexts import tiny_context
from tests.tiny import tiny_head, tiny_model

TASK = find_task("text-classification")


@pytest.fixture
def context(tmp_path):
    return tiny_context(tmp_path)


def rows(model, context, size):
    return [model_inputs(model, context, one) for one in calibration_batches(model, context, 24, size)]


@pytest.mark.parametrize("name", ["bert.encoder.layer.0.output.dense", "bert.pooler.dense"])
def test_information_is_the_mean_of_squared_gradients(name, context):
    """With one class fewer than two answers there is nothing random but signs, whose square is 1: numbers, `±y`."""
    model = tiny_model(layers=1, num_labels=1)
    batches = rows(model, context, 1)
    module, expected = model.get_submodule(name), 0
    for batch in batches:
        model.zero_grad()
        model(**batch).logits.sum().backward()
        expected = expected + module.weight.grad.square().sum(0).double() / len(batches)
    model.zero_grad()
    found = input_information(model, [name], batches, TASK, seed=0)[name]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-12)
    together = input_information(model, [name], rows(model, context, 8), TASK, seed=0)[name]
    torch.testing.assert_close(together, found, rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("family", ["bert", "gpt2", "deberta-v2", "t5"])
def test_it_makes_a_smaller_model_that_reloads(family, context, tmp_path):
    model = tiny_head(family, "ForSequenceClassification")
    whole = model.num_parameters()
    small = fwsvd(model, parse(FwsvdConfig, {"target_params": 0.7, "multiple": 2, "examples": 8}), context).eval()
    assert small.num_parameters() < whole
    assert any(isinstance(module, LowRankLinear) for module in small.modules())
    small.save_pretrained(tmp_path / "small")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "small").eval()
    (batch,) = rows(small, context, 24)
    with torch.no_grad():
        assert torch.equal(again(**batch).logits, small(**batch).logits)
