"""Data-aware factorization of whole models: within its budget, nearer to the dense model than plain SVD."""

import copy

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from hfcompress.calibration import calibration_batches, model_inputs
from hfcompress.config import parse
from hfcompress.errors import RequestError
from hfcompress.factorization.activation import ActivationConfig, activation
from hfcompress.factorization.svd import SvdConfig, svd
from hfcompress.modeling.low_rank import LowRankLinear
from hfcompress.modeling.targets import targets_of
from tests.pruning.contexts import tiny_context
from tests.tiny import tiny_head, tiny_model

FAMILIES = [
    "bert",
    "distilbert",
    "mpnet",
    "modernbert",
    "deberta-v2",
    "albert",
    "mobilebert",
    "gpt2",
    "llama",
    "bart",
    "t5",
]


@pytest.fixture
def context(tmp_path):
    return tiny_context(tmp_path)


def linear_parameters(model):
    return sum(module.weight.numel() for module in targets_of(model).values())


def ranks(model):
    return {name: module.rank for name, module in model.named_modules() if isinstance(module, LowRankLinear)}


def error(model, dense, context):
    """The mean square of what changed of the logits on the calibration rows."""
    batches = [model_inputs(dense, context, batch) for batch in calibration_batches(dense, context, 24)]
    with torch.no_grad():
        found = [(model(**one).logits - dense(**one).logits).square().mean() for one in batches]
    return float(torch.stack(found).mean())


@pytest.mark.parametrize("behind", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gets_within_its_budget(family, behind, context):
    model = tiny_head(family, "ForSequenceClassification").eval()
    whole = linear_parameters(model)
    options = {"target_params": 0.7, "multiple": 2, "examples": 16, "behind": behind}
    small = activation(copy.deepcopy(model), parse(ActivationConfig, options), context)
    assert ranks(small)
    assert 0.5 * whole < linear_parameters(small) <= 0.7 * whole
    assert error(small, model, context) < 1e3


@pytest.mark.parametrize("family", ["bert", "modernbert", "bart"])
def test_it_is_nearer_to_the_dense_model_than_plain_svd(family, context):
    torch.manual_seed(0)
    model = tiny_head(family, "ForSequenceClassification").eval()
    plain = svd(copy.deepcopy(model), parse(SvdConfig, {"rank": 8}), context)
    errors = {}
    for behind in (True, False):
        options = {"rank": 8, "behind": behind, "fisher": False, "focus": 0, "examples": 24}
        found = activation(copy.deepcopy(model), parse(ActivationConfig, options), context)
        assert ranks(found) == ranks(plain)
        errors[behind] = error(found, model, context)
    assert errors[False] < error(plain, model, context)
    assert errors[True] < errors[False]


@pytest.mark.parametrize("method", ["svd", "activation"])
def test_the_result_reloads_with_the_same_answers(method, context, tmp_path):
    step, config = {"svd": (svd, SvdConfig), "activation": (activation, ActivationConfig)}[method]
    small = step(tiny_model().eval(), parse(config, {"rank": 6}), context)
    small.save_pretrained(tmp_path / "small")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "small").eval()
    assert error(again, small, context) == 0


def test_a_rank_above_break_even_leaves_layers_as_they_are(context):
    model = tiny_model()
    before = model.config.to_dict()
    assert not ranks(svd(model, parse(SvdConfig, {"rank": 1000}), context))
    assert model.config.to_dict() == before


def test_only_what_is_asked_for_is_factorized(context):
    small = svd(
        tiny_model(), parse(SvdConfig, {"rank_ratio": 0.5, "layers": [1], "exclude": ["*.attention.*"]}), context
    )
    assert list(ranks(small)) == ["bert.encoder.layer.1.intermediate.dense", "bert.encoder.layer.1.output.dense"]


def test_what_energy_keeps(context):
    model = tiny_model()
    kept = {
        share: ranks(svd(copy.deepcopy(model), parse(SvdConfig, {"energy": share}), context)) for share in (0.3, 0.6)
    }
    assert kept[0.3]
    assert all(kept[0.3][name] <= rank for name, rank in kept[0.6].items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing says what the ranks are to be"),
        ({"rank": 8, "target_params": 0.5}, "rank and target_params are given"),
        ({"rank": 0}, "rank"),
        ({"target_params": 1.5}, "target_params"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(RequestError, match=message):
        parse(SvdConfig, options)


def test_a_budget_that_cannot_be_met_says_what_can(context):
    with pytest.raises(RequestError, match=r"The smallest possible model takes 0\.\d+"):
        svd(tiny_model(), parse(SvdConfig, {"target_params": 0.01}), context)


def test_what_is_of_low_rank_already_is_refused(context):
    small = svd(tiny_model(), parse(SvdConfig, {"rank": 6, "layers": [0]}), context)
    with pytest.raises(RequestError, match=r"6 of these layers are of low rank already, such as '.*layer\.0.*query'"):
        svd(small, parse(SvdConfig, {"rank": 4}), context)
    again = svd(small, parse(SvdConfig, {"rank": 4, "exclude": ["*.layer.0.*"]}), context)
    assert sorted(set(ranks(again).values())) == [4, 6]


def test_time_is_a_budget_too(context, monkeypatch):
    """Measured times of layers this small are noise: here one matrix takes 10 ms, and each rank 0.5 ms."""
    monkeypatch.setattr(
        "hfcompress.factorization.layers.time_ranks", lambda m, n, largest: (0.5 * np.arange(largest + 1), 10.0)
    )
    small = svd(tiny_model(), parse(SvdConfig, {"target_latency": 0.5, "multiple": 4}), context)
    found = ranks(small)
    layers = len(targets_of(tiny_model()))
    assert 0.5 * sum(found.values()) + 10 * (layers - len(found)) <= 0.5 * 10 * layers
