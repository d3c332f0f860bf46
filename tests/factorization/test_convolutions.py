"""Convolutions of whole models: every method and family within its budget, loaded again, trained, merged, pruned."""

import copy
import re
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForImageClassification

from hfcompress.calibration import calibration_inputs
from hfcompress.config import parse
from hfcompress.errors import ModelError, RequestError
from hfcompress.factorization import kernels, patches, tensors
from hfcompress.factorization.patches import norm_of
from hfcompress.modeling.factors import merge
from hfcompress.modeling.groups import groups_of
from hfcompress.modeling.low_rank import ConvChain
from hfcompress.modeling.masking import masked
from hfcompress.modeling.structure import structure_of
from hfcompress.modeling.surgery import keep_units
from hfcompress.registry import find
from tests.modeling.test_filters import lively
from tests.pruning.contexts import tiny_context
from tests.pruning.images import image_context
from tests.tiny import tiny_head, tiny_inputs

METHODS = ["channel", "cp", "spatial", "tucker"]
FAMILIES = ["resnet", "mobilenet_v1", "mobilenet_v2", "vit"]
every_method = pytest.mark.parametrize("method", METHODS)
every_family = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Few ranks are tried, and no rank for long."""
    monkeypatch.setattr(kernels, "_RANKS", 4)
    monkeypatch.setattr(tensors, "_STEPS", 10)


@pytest.fixture
def context(tmp_path):
    return image_context(tmp_path)


def dense(family="resnet"):
    return tiny_head("vit", "ForImageClassification") if family == "vit" else lively(family)


def factorized(method, context, model=None, **options):
    """A model after a step, with small multiples and few images."""
    found = find("factorization", method)
    options = {"multiple": 2, "examples": 16, "batch_size": 8, **options}
    return found.target(model or dense(), found.config(**options), context)


def answer(model):
    with torch.no_grad():
        return model.eval()(**tiny_inputs(model)).logits


def counted(model, batch):
    """Multiply-accumulates for one image of a batch, by torch's own counter."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(**{name: values[:1] for name, values in batch.items()})
    return counter.get_total_flops() // 2


def chains(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, ConvChain)}


@every_family
@every_method
def test_it_costs_what_was_said_and_is_loaded_and_merged(method, family, context, tmp_path):
    before = dense(family)
    (batch, *_) = calibration_inputs(before, context, 2, 2)
    small = factorized(method, context, copy.deepcopy(before), target_macs=0.6)
    found = context.findings["low_rank"]
    assert chains(small)
    assert found["macs"] <= 0.6 * found["dense_macs"]
    assert counted(before, batch) - counted(small, batch) == found["dense_macs"] - found["macs"]
    assert before.num_parameters() - small.num_parameters() == found["dense_parameters"] - found["parameters"]
    assert {entry["name"] for entry in found["layers"] if entry["rank"]} == {*chains(small)}
    small.save_pretrained(tmp_path / "small")
    again = AutoModelForImageClassification.from_pretrained(tmp_path / "small")
    assert {**structure_of(again.config).modules} == {**structure_of(small.config).modules}
    torch.testing.assert_close(answer(again), answer(small), atol=1e-6, rtol=1e-5)
    merged = merge(copy.deepcopy(small))
    assert not structure_of(merged.config)
    assert {name: x.shape for name, x in merged.state_dict().items()} == {
        name: x.shape for name, x in before.state_dict().items()
    }
    torch.testing.assert_close(answer(merged), answer(small), atol=1e-4, rtol=1e-4)


@every_method
def test_it_trains(method, context):
    small = factorized(method, context, target_macs=0.6).train()
    weights = [parameter for name, parameter in small.named_parameters() if any(one in name for one in chains(small))]
    before = [weight.detach().clone() for weight in weights]
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
    small(**tiny_inputs(small), labels=torch.tensor([0, 1])).loss.backward()
    optimizer.step()
    assert len(weights) >= 2 * len(chains(small))
    assert all(not torch.equal(weight, was) for weight, was in zip(weights, before, strict=True))


@every_method
@pytest.mark.parametrize("family", ["resnet", "mobilenet_v2"])
def test_the_filters_of_chains_can_be_removed(method, family, context):
    small = factorized(method, context, dense(family), target_macs=0.7)
    groups = groups_of(small, ("filters",))
    kept = {group.name: list(range(1, group.units, 2)) for group in groups}
    masks = {group.name: torch.zeros(group.units) for group in groups}
    for name, units in kept.items():
        masks[name][units] = 1
    with masked(small, groups, masks):
        silenced = answer(small)
    torch.testing.assert_close(answer(keep_units(small, kept)), silenced, atol=1e-4, rtol=1e-4)
    assert chains(small)
    merged = merge(copy.deepcopy(small))
    torch.testing.assert_close(answer(merged), silenced, atol=1e-4, rtol=1e-4)


@every_method
@pytest.mark.parametrize("family", ["resnet", "vit"])
def test_what_is_lost_on_average_is_made_up_for(method, family, context, monkeypatch):
    monkeypatch.setattr(patches, "_PLACES", 10**6)
    before = dense(family)
    name = next(name for name, module in before.named_modules() if isinstance(module, nn.Conv2d))
    small = factorized(method, context, copy.deepcopy(before), rank=2, modules=[name])
    batches = calibration_inputs(before, context, 16, 8)
    means = []
    for model in (before, small):
        norm = norm_of(model, name)
        given = torch.cat([model.get_submodule(name)(batch["pixel_values"]).detach() for batch in batches]).mean(
            (0, 2, 3)
        )
        means.append(given if norm is None else given - norm.running_mean)
    assert chains(small).keys() == {name}
    torch.testing.assert_close(means[1], means[0], atol=1e-5, rtol=1e-5)


@every_method
def test_what_it_would_make_is_told_beforehand(method, context):
    found, model = find("factorization", method), dense()
    config = found.config(target_params=0.6, multiple=2, examples=16)
    expected = found.predict(model, config, context)
    told = copy.deepcopy(context.findings["low_rank"])
    assert not chains(model)
    small = found.target(model, config, context)
    assert structure_of(small.config).modules == structure_of(expected).modules != {}
    assert 0 < told.pop("milliseconds")
    assert 0 < told.pop("dense_milliseconds")
    assert context.findings["low_rank"].items() >= told.items()
    assert context.findings["low_rank"]["measured_loss"] >= 0


@every_method
@pytest.mark.parametrize("fisher", [True, False])
def test_calibration_moves_answers_less_than_the_nearest_kernels(method, fisher, context):
    model = dense()
    batches = calibration_inputs(model, context, 32, 8)
    found = []
    for plain in (False, True):
        small = factorized(method, context, copy.deepcopy(model), target_macs=0.5, plain=plain, fisher=fisher)
        with torch.no_grad():
            found.append(sum(float((small(**one).logits - model(**one).logits).square().mean()) for one in batches))
    assert found[0] < found[1]


def test_depthwise_convolutions_stay_and_that_is_said(context):
    said = []
    small = factorized("tucker", replace(context, say=said.append), dense("mobilenet_v1"), target_macs=0.6)
    assert said[0].startswith("13 of 27 convolutions stay as they are, with groups: mobilenet_v1.layer.")
    assert all(isinstance(m.convolution, nn.Conv2d) for m in small.mobilenet_v1.layer[::2])


def test_convolutions_that_would_not_gain_stay_and_are_told(context):
    said = []
    context = replace(context, say=said.append)
    small = factorized("channel", context, rank=8, multiple=8)
    dense_ones = [entry["name"] for entry in context.findings["low_rank"]["layers"] if entry["rank"] is None]
    assert dense_ones
    assert all(type(small.get_submodule(name)) is nn.Conv2d for name in dense_ones)
    assert f"{len(dense_ones)} of 8 convolutions stay dense, since they would not become smaller" in said[0]


@every_method
def test_a_model_without_convolutions_is_refused(method, tmp_path):
    model = tiny_head("bert", "ForSequenceClassification")
    with pytest.raises(RequestError, match=r"bert has no convolutions.*ResNet, MobileNet and ViT's patch embedding"):
        factorized(method, tiny_context(tmp_path), model, target_macs=0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modules": ["*.nothing"]}, "'\\*.nothing' matches nothing"),
        ({"exclude": ["*"]}, "no weight of this mobilenet_v1 is left"),
        ({"modules": ["mobilenet_v1.layer.0.*"]}, "none of these convolutions can be factorized"),
        ({"target_macs": 0.01}, "0.01 of the layers' macs cannot be met"),
        ({"layers": [99]}, "there is no layer 99"),
    ],
)
def test_what_cannot_be_is_refused(options, message, context):
    with pytest.raises(RequestError, match=message):
        factorized("tucker", context, dense("mobilenet_v1"), **{"target_macs": 0.5, **options})


def test_exactly_one_way_to_choose_is_needed():
    config = find("factorization", "tucker").config
    with pytest.raises(RequestError, match="nothing says what the ranks are to be"):
        config().check()
    with pytest.raises(RequestError, match="rank and energy are given"):
        config(rank=4, energy=0.9).check()


def test_chains_are_refused_until_they_are_merged(context):
    small = factorized("channel", context, target_macs=0.6)
    with pytest.raises(RequestError, match=r"are chains already, such as 'resnet.*hfcompress.merge"):
        factorized("tucker", context, small, target_macs=0.5)
    assert chains(factorized("tucker", context, merge(small), target_macs=0.5))


def test_weights_that_are_no_numbers_are_refused(context):
    model = dense()
    model.resnet.embedder.embedder.convolution.weight.data[0] = float("nan")
    with pytest.raises(ModelError, match="resnet.embedder.embedder.convolution"):
        factorized("cp", context, model, target_macs=0.5)


@pytest.mark.parametrize("method", ["activation", "fwsvd"])
@pytest.mark.parametrize("family", ["resnet", "mobilenet_v2"])
def test_the_linear_head_of_a_network_of_convolutions_can_be_factorized(method, family, context):
    model = dense(family)
    found = find("factorization", method)
    small = found.target(model, parse(found.config, {"rank": 1, "multiple": 1, "modules": ["classifier*"]}), context)
    assert structure_of(small.config).modules
    assert answer(small).isfinite().all()


@pytest.mark.parametrize("method", ["svd", "activation", "fwsvd"])
def test_methods_for_linear_layers_name_those_for_convolutions(method, context):
    found = find("factorization", method)
    with pytest.raises(RequestError, match=r"^method: the layers of this resnet are convolutions, .* Choose tucker"):
        found.target(dense(), parse(found.config, {"rank": 1}), context)


def test_ranks_that_are_too_large_name_the_largest(context):
    told = []
    context.say = told.append
    factorized("tucker", context, rank=500)
    assert "since they would not become smaller; the largest rank that does is " in told[-1]
    assert re.search(r"is \d+ at \d+ x \d+ x \d+ x \d+", told[-1])


def test_fewer_patches_than_the_rank_are_told(context, caplog):
    small = context.data.train.select(range(2))
    context.data = replace(context.data, train=small)
    factorized("channel", context, rank_ratio=1.0)
    assert "fewer patches than the rank were seen at " in caplog.text
