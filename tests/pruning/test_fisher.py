"""`fisher`: what it removes, that the rest makes up for it, and that the result is a model like any other."""

import copy

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from hfcompress.calibration import calibration_batches, model_inputs
from hfcompress.calibration.sensitivity import measure_sensitivity
from hfcompress.config import parse
from hfcompress.errors import HfcompressError, ModelError, RequestError
from hfcompress.modeling.groups import groups_of
from hfcompress.pruning.budget import unit_macs
from hfcompress.pruning.fisher import FisherConfig, fisher
from hfcompress.pruning.rebuilding import rebuild
from hfcompress.tasks import find_task
from tests.pruning.contexts import tiny_context
from tests.tiny import tiny_head, tiny_model

TASK = find_task("text-classification")


@pytest.fixture
def context(tmp_path):
    return tiny_context(tmp_path)


def logits(model, context):
    (batch,) = calibration_batches(model, context, 24)
    with torch.no_grad():
        return model(**model_inputs(model, context, batch)).logits


def macs(model):
    return sum(group.units * unit_macs(model, group) for group in groups_of(model))


def looked_at(model, context, focus=0.5):
    batches = calibration_batches(model, context, 24, batch_size=8)
    inputs = [model_inputs(model, context, batch) for batch in batches]
    groups = groups_of(model)
    return groups, inputs, measure_sensitivity(model, readers(groups), inputs, TASK, focus, seed=0)


def readers(groups):
    return [group.reader.module for group in groups]


@pytest.mark.parametrize("family", ["bert", "distilbert", "mpnet", "modernbert", "deberta-v2", "squeezebert", "albert",
                                    "mobilebert", "gpt2", "llama", "bart", "t5"])  # fmt: skip
def test_every_family_gets_within_its_budget(family, context):
    model = tiny_head(family, "ForSequenceClassification")
    whole = macs(model)
    small = fisher(model, parse(FisherConfig, {"macs": 0.5, "examples": 16, "multiple": 4}), context)
    assert macs(small) <= 0.5 * whole
    assert macs(small) > 0.2 * whole
    assert torch.isfinite(logits(small, context)).all()


def test_the_whole_budget_returns_the_model_as_it_was(context):
    model = tiny_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert fisher(model, FisherConfig(macs=1.0), context) is model
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_the_result_reloads_with_the_same_answers(context, tmp_path):
    small = fisher(tiny_model(), parse(FisherConfig, {"macs": 0.4, "multiple": 8}), context)
    small.save_pretrained(tmp_path / "small")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "small").eval()
    assert torch.equal(logits(small, context), logits(again, context))


def test_mode_and_gradients_are_as_before(context):
    model = tiny_model().train()
    small = fisher(model, parse(FisherConfig, {"macs": 0.5, "multiple": 8}), context)
    assert small.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in small.parameters())


@pytest.mark.parametrize("family", ["bert", "modernbert", "gpt2", "bart"])
def test_rebuilt_is_nearer_to_the_dense_model_than_silenced(family, context):
    torch.manual_seed(0)
    dense = tiny_head(family, "ForSequenceClassification")
    groups, inputs, known = looked_at(dense, context, focus=0)
    kept = {group.name: list(range(group.units - group.units // 4)) for group in groups}
    rebuilt = copy.deepcopy(dense)
    rebuild(rebuilt, groups, kept, inputs, known)

    def error(model):
        with torch.no_grad():
            return sum((model(**one).logits - dense(**one).logits).square().sum() for one in inputs)

    from hfcompress.modeling.masking import masked

    masks = {group.name: torch.zeros(group.units) for group in groups}
    for name, units in kept.items():
        masks[name][units] = 1
    with masked(dense, groups, masks), torch.no_grad():
        silenced = [dense(**one).logits for one in inputs]
    plain = sum((a - dense(**b).logits).square().sum() for a, b in zip(silenced, inputs, strict=True))
    assert error(rebuilt) < 0.5 * plain


def test_units_that_repeat_others_cost_nothing(context):
    """The second half of the neurons says what the first half says: half of them can go, exactly."""
    model = tiny_model(layers=1)
    layer = model.bert.encoder.layer[0]
    with torch.no_grad():
        for tensor in (layer.intermediate.dense.weight, layer.intermediate.dense.bias):
            tensor[32:] = tensor[:32]
    before = logits(model, context)
    neurons = groups_of(model)[1]
    groups, inputs, known = looked_at(model, context)
    rebuild(model, groups, {groups[0].name: range(4), neurons.name: range(32)}, inputs, known)
    assert (model.bert.encoder.layer[0].output.dense.weight[:, 32:] == 0).all()
    assert torch.allclose(logits(model, context), before, atol=1e-3)


def test_moments_do_not_depend_on_batches_or_padding(context):
    model = tiny_model()
    reader = groups_of(model)[1].reader.module

    def covariance(size):
        inputs = [model_inputs(model, context, one) for one in calibration_batches(model, context, 24, size)]
        return measure_sensitivity(model, [reader], inputs, TASK, 0.0, seed=0)[reader].covariance

    assert torch.allclose(covariance(1), covariance(24), atol=1e-6)


def test_gradients_are_the_fisher_information_of_the_answers(context):
    """Against the definition, Σ_c p_c ∇log p_c ∇log p_cᵀ, on average over many random signs."""
    model = tiny_model(layers=1, num_labels=3)
    batches = calibration_batches(model, context, 4, batch_size=4)
    inputs = [model_inputs(model, context, one) for one in batches]
    reader = groups_of(model)[1].reader.module
    found = [
        measure_sensitivity(model, [reader], inputs, TASK, 0.0, seed)[reader].gradient.trace() for seed in range(300)
    ]
    outputs = {}
    handle = model.get_submodule(reader).register_forward_hook(
        lambda module, args, output: outputs.update(y=output.requires_grad_() if output.is_leaf else output)
    )
    logs = model(**inputs[0]).logits.log_softmax(-1)
    handle.remove()
    wanted = 0.0
    for row in range(4):
        for label in range(3):
            (slope,) = torch.autograd.grad(logs[row, label], outputs["y"], retain_graph=True)
            slope = slope[inputs[0]["attention_mask"].bool()]
            wanted += logs[row, label].exp().item() * slope.square().sum().item() / 4
    assert np.mean(found) == pytest.approx(wanted, rel=0.05)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "no budget is given"),
        ({"macs": 0.5, "latency": 0.5}, "macs and latency are given"),
        ({"macs": 0}, "macs"),
        ({"macs": 1.2}, "macs"),
        ({"macs": 0.5, "examples": 1}, "examples"),
    ],
)
def test_wrong_options_are_refused(options, words):
    with pytest.raises(RequestError, match=words):
        parse(FisherConfig, options)


def test_nan_weights_are_refused_and_the_layer_named(context):
    model = tiny_model()
    with torch.no_grad():
        model.bert.encoder.layer[1].intermediate.dense.weight[0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"layer\.1\.output\.dense.*NaN"):
        fisher(model, FisherConfig(macs=0.5), context)


def test_convolutional_networks_are_told_of_another_method(context):
    with pytest.raises(HfcompressError, match="heads or neurons"):
        fisher(tiny_head("resnet", "ForImageClassification"), FisherConfig(macs=0.5), context)


@pytest.mark.parametrize("budget", ["parameters", "latency"])
def test_other_budgets(budget, context):
    model = tiny_model()
    whole = sum(group.units * group.parameters(model) for group in groups_of(model))
    small = fisher(model, parse(FisherConfig, {budget: 0.5, "multiple": 8}), context)
    left = sum(group.units * group.parameters(small) for group in groups_of(small))
    assert left < whole
    if budget == "parameters":
        assert left <= 0.5 * whole
