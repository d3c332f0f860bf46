"""What a low-rank step leaves in its record: exact sums, curves from 1 to 0, and a divergence computed by hand."""

import copy
import json

import numpy as np
import pytest
import torch
from huggingface_hub import constants

from hfcompress.calibration import calibration_batches, model_inputs
from hfcompress.config import parse
from hfcompress.errors import RequestError
from hfcompress.factorization.findings import squares_lost
from hfcompress.factorization.fwsvd import FwsvdConfig, fwsvd, predict_fwsvd
from hfcompress.factorization.svd import SvdConfig, predict_svd, svd
from hfcompress.measure import timings
from hfcompress.measure.size import measure_size
from hfcompress.modeling.linear import matrix
from hfcompress.modeling.low_rank import LowRankLinear
from hfcompress.modeling.targets import targets_of
from tests.pruning.contexts import tiny_context
from tests.tiny import tiny_head, tiny_model


@pytest.fixture
def context(tmp_path):
    return tiny_context(tmp_path)


def run(method, config, model, context, **options):
    small = method(copy.deepcopy(model), parse(config, options), context)
    return small, context.findings["low_rank"]


def test_the_expected_loss_is_what_the_weights_lose(context):
    model = tiny_model()
    small, found = run(svd, SvdConfig, model, context, target_params=0.7, multiple=2)
    lost = {name: float((matrix(one) - matrix(targets_of(model)[name])).square().sum()) for name, one in whole(small)}
    assert found["predicted_loss"] == pytest.approx(sum(lost.values()), rel=1e-3)
    assert found["loss_of_all"] == pytest.approx(
        sum(float(matrix(one).square().sum()) for one in targets_of(model).values()), rel=1e-3
    )
    by_name = {layer["name"]: layer for layer in found["layers"]}
    assert by_name.keys() == targets_of(model).keys()
    assert {name: by_name[name]["loss"] for name in lost} == pytest.approx(lost, rel=1e-3, abs=1e-6)
    ranks = {name: one.rank for name, one in small.named_modules() if isinstance(one, LowRankLinear)}
    assert {name: layer["rank"] for name, layer in by_name.items() if layer["rank"]} == ranks
    assert found["dense_parameters"] - found["parameters"] == model.num_parameters() - small.num_parameters()
    assert found["share"] == pytest.approx(found["parameters"] / found["dense_parameters"], rel=1e-3)
    assert json.loads(json.dumps(found)) == found


def whole(model):
    """The linear layers, those of low rank multiplied out."""
    modules = dict(model.named_modules())
    return [(name, one.dense()) for name, one in modules.items() if isinstance(one, LowRankLinear)]


@pytest.mark.parametrize(("method", "config"), [(svd, SvdConfig), (fwsvd, FwsvdConfig)])
def test_curves_fall_from_all_to_nothing(method, config, context):
    _, found = run(method, config, tiny_model(), context, rank=4)
    for layer in found["layers"]:
        ranks, lost = found["ranks"][str(min(layer["outputs"], layer["inputs"]))], layer["lost"]
        assert (ranks[0], ranks[-1]) == (0, min(layer["outputs"], layer["inputs"]))
        assert (lost[0], lost[-1], len(lost)) == (1.0, 0.0, len(ranks))
        assert lost == sorted(lost, reverse=True)
        assert ("squares_lost" in layer) == (method is fwsvd)


def test_singular_values_of_weights_are_those_of_svd():
    weight = torch.randn(12, 7, dtype=torch.float64)
    sizes = torch.linalg.svdvals(weight).square().numpy()
    expected = [sizes[rank:].sum() for rank in range(8)]
    np.testing.assert_allclose(squares_lost(weight), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(squares_lost(weight.T), expected, rtol=1e-4, atol=1e-4)


def test_what_is_measured_is_the_divergence_of_the_answers(context):
    model = tiny_head("bert", "ForSequenceClassification").eval()
    small, found = run(svd, SvdConfig, model, context, rank=4)
    total = 0.0
    for batch in calibration_batches(model, context, 64):
        inputs = model_inputs(model, context, batch)
        with torch.no_grad():
            before, after = (one.eval()(**inputs).logits.double().softmax(-1) for one in (model, small))
        total += float((before * (before / after).log()).sum())
    assert found["measured_on"] == 24
    assert found["measured_loss"] == pytest.approx(total / 24, rel=1e-2, abs=1e-6)
    assert found["measured_loss"] > 0


def test_of_numbers_it_is_half_the_squared_difference(context):
    model = tiny_model(num_labels=1, problem_type="regression").eval()
    small, found = run(svd, SvdConfig, model, context, rank=4)
    (batch,) = calibration_batches(model, context, 64)
    inputs = model_inputs(model, context, batch)
    with torch.no_grad():
        change = small.eval()(**inputs).logits - model(**inputs).logits
    assert found["measured_loss"] == pytest.approx(float(change.square().sum()) / 48, rel=1e-2)


def test_without_rows_nothing_is_measured(tmp_path):
    context = tiny_context(tmp_path)
    context.data.train = context.data.train.select([0])
    small, found = run(svd, SvdConfig, tiny_model(), context, rank=4)
    assert any(isinstance(module, LowRankLinear) for module in small.modules())
    assert "measured_loss" not in found


@pytest.mark.parametrize(
    ("method", "predict", "config"), [(svd, predict_svd, SvdConfig), (fwsvd, predict_fwsvd, FwsvdConfig)]
)
@pytest.mark.parametrize("family", ["bert", "gpt2", "albert"])
def test_a_prediction_is_what_the_step_makes_and_changes_nothing(
    family, method, predict, config, context, tmp_path, monkeypatch
):
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(timings, "_EFFORT", timings.Effort(rounds=1, warm_up=1))
    model = tiny_head(family, "ForSequenceClassification").eval()
    state = copy.deepcopy(model.state_dict())
    before = copy.deepcopy(model.config)
    options = parse(config, {"target_params": 0.7, "multiple": 2})
    expected = predict(model, options, context)
    found = context.findings.pop("low_rank")
    assert model.config == before
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert 0 < found["milliseconds"] < float("inf")
    assert found["dense_milliseconds"] > 0
    small = method(model, options, context)
    assert measure_size(expected, context.task).parameters == small.num_parameters()
    assert measure_size(expected, context.task).macs == measure_size(small.config, context.task).macs
    same = ("predicted_loss", "parameters", "dense_parameters", "share", "by_budget", "by_ratio")
    made = context.findings["low_rank"]
    assert {key: found[key] for key in same} == {key: made[key] for key in same}
    assert [layer["rank"] for layer in found["layers"]] == [layer["rank"] for layer in made["layers"]]


def test_more_is_expected_to_be_lost_with_less(context):
    _, found = run(svd, SvdConfig, tiny_model(), context, target_params=0.6, multiple=2)
    for key in ("by_budget", "by_ratio"):
        shares, losses = zip(*sorted(found[key]), strict=True)
        assert len(shares) > 3
        assert list(losses) == sorted(losses, reverse=True)
    assert all(share <= 0.9 for share, _ in found["by_budget"])


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            {"rank": 1000},
            "all 24 layers stay dense, since the rank that was asked for would not make them smaller; "
            "the largest that does is 15 at 32 x 32, 21 at 32 x 64, 21 at 64 x 32: ",
        ),
        ({"target_params": 1.0}, "all 24 layers stay dense, which loses least within the budget: "),
        ({"rank": 18}, "16 of 24 layers stay dense, since the rank that was asked for would not make them smaller; "),
    ],
)
def test_layers_that_stay_dense_are_told(options, line, context):
    said = []
    context.say = said.append
    _, found = run(svd, SvdConfig, tiny_model(layers=4), context, **options)
    assert len(said) == 1
    assert said[0].startswith(line)
    names = "bert.encoder.layer.{0,1,2,3}.attention.self.query, bert.encoder.layer.{0,1,2,3}.attention.self.key, "
    assert names in said[0]
    assert sum(layer["rank"] is None for layer in found["layers"]) == int(line.replace("all ", "").split()[0])


def test_a_budget_that_cannot_be_met_names_its_option(context):
    with pytest.raises(RequestError, match=r"^target_macs: 0.01 of the layers' macs cannot be met.") as error:
        svd(tiny_model(), parse(SvdConfig, {"target_macs": 0.01}), context)
    least = float(str(error.value).partition("takes ")[2].split(":")[0])
    assert svd(tiny_model(), parse(SvdConfig, {"target_macs": least}), context)


def test_where_no_rank_is_faster_none_is_offered(context, monkeypatch):
    monkeypatch.setattr(
        "hfcompress.factorization.layers.time_ranks", lambda m, n, largest: (np.full(largest + 1, 2.0), 1.0)
    )
    with pytest.raises(RequestError, match=r"^target_latency: 0.5 of .* None of what may be chosen costs less"):
        svd(tiny_model(), parse(SvdConfig, {"target_latency": 0.5}), context)


def test_it_is_measured_on_rows_that_the_method_does_not_look_at(tmp_path, monkeypatch):
    context = tiny_context(tmp_path, rows=40)
    monkeypatch.setattr("hfcompress.factorization.comparing._ROWS", 16)
    texts, looked = [], context.data.train["text"]
    order = np.random.default_rng(context.seed).permutation(40)
    encode = context.task.encode
    monkeypatch.setattr(
        type(context.task), "encode", lambda self, rows, *more: texts.append(rows["text"]) or encode(rows, *more)
    )
    _, found = run(fwsvd, FwsvdConfig, tiny_model(), context, rank=4, examples=24)
    assert found["measured_on"] == 16
    assert sorted(texts[1]) == sorted(looked[int(place)] for place in order[24:])
    assert sorted(texts[0]) == sorted(looked[int(place)] for place in order[:24])
