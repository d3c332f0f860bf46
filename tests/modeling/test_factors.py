"""Low-rank layers in place of linear ones: equal at full rank, loaded again, pruned, merged; for every family."""

import copy

import pytest
import torch
from torch import nn
from transformers import AutoConfig
from transformers.pytorch_utils import Conv1D

import hfcompress  # noqa: F401
from hfcompress.errors import ModelError
from hfcompress.modeling.factors import Factors, merge, put_factors
from hfcompress.modeling.families import stacks_of
from hfcompress.modeling.groups import groups_of
from hfcompress.modeling.linear import matrix
from hfcompress.modeling.low_rank import LowRankLinear
from hfcompress.modeling.masking import masked
from hfcompress.modeling.structure import structure_of
from hfcompress.modeling.surgery import keep_hidden, keep_layers, keep_units
from tests.tiny import CONVOLUTIONAL, HEADS, tiny_head, tiny_inputs, tiny_model

TRANSFORMERS = sorted(set(HEADS) - set(CONVOLUTIONAL))
every_family = pytest.mark.parametrize("family", TRANSFORMERS)


def outputs(model):
    inputs = {name: x.to(model.dtype) if x.is_floating_point() else x for name, x in tiny_inputs(model).items()}
    with torch.no_grad():
        return model.eval()(**inputs)[0]


def linear_layers(model):
    """The names of the linear layers inside the stacks."""
    inside = {id(module) for _, layers in stacks_of(model) for module in layers.modules()}
    return [
        name
        for name, module in model.named_modules()
        if id(module) in inside and isinstance(module, nn.Linear | Conv1D)
    ]


def factorized(model, rank=None):
    """The model with each linear layer factorized, by SVD; at full rank if none is given."""
    factors = {}
    for name in linear_layers(model):
        left, sizes, right = torch.linalg.svd(matrix(model.get_submodule(name)), full_matrices=False)
        factors[name] = Factors(right[:rank], (left * sizes)[:, :rank])
    return put_factors(model, factors)


@every_family
def test_at_full_rank_it_answers_as_before_and_merging_brings_the_stock_model_back(family):
    model = tiny_head(family, HEADS[family][-1]).double()
    expected, before = outputs(model), model.config.to_dict()
    names = {name: tensor.shape for name, tensor in model.state_dict().items()}
    factorized(model)
    if family == "squeezebert":  # its layers are convolutions
        assert not structure_of(model.config)
        return
    assert any(isinstance(module, LowRankLinear) for module in model.modules())
    assert torch.allclose(outputs(model), expected, atol=1e-6)
    merge(model)
    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == names
    assert model.config.to_dict() == before
    assert torch.allclose(outputs(model), expected, atol=1e-6)


@every_family
def test_saved_and_loaded_it_computes_the_same(family, tmp_path):
    model = factorized(tiny_head(family, HEADS[family][-1]), rank=5)
    expected = outputs(model)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    assert torch.equal(outputs(again), expected)
    assert again.num_parameters() == model.num_parameters()
    assert structure_of(AutoConfig.from_pretrained(tmp_path)).modules == structure_of(model.config).modules


@every_family
def test_its_heads_and_neurons_can_be_removed(family):
    model = factorized(tiny_head(family, HEADS[family][-1]), rank=5)
    groups = groups_of(model)
    kept = {g.name: [u for u in range(g.units) if (u + i) % 3] if i % 4 else [] for i, g in enumerate(groups)}
    masks = {group.name: torch.zeros(group.units) for group in groups}
    for name, units in kept.items():
        masks[name][units] = 1
    with masked(model, groups, masks):
        expected = outputs(model)
    keep_units(model, kept)
    assert torch.allclose(outputs(model), expected, atol=1e-5)


def test_pruned_saved_merged_and_saved_again(tmp_path):
    model = factorized(tiny_model(), rank=5)
    keep_units(model, {group.name: range(group.units - 1) for group in groups_of(model)[1:3]})
    expected = outputs(model)
    model.save_pretrained(tmp_path / "low-rank")
    again = type(model).from_pretrained(tmp_path / "low-rank")
    assert torch.equal(outputs(again), expected)
    merge(again)
    assert not any(isinstance(module, LowRankLinear) for module in again.modules())
    assert all("low_rank" not in entry for entry in structure_of(again.config).modules.values())
    again.save_pretrained(tmp_path / "merged")
    assert torch.allclose(outputs(type(model).from_pretrained(tmp_path / "merged")), expected, atol=1e-5)


def test_its_layers_and_dimensions_can_be_left_out():
    model = factorized(tiny_model(), rank=5)
    assert outputs(keep_layers(model, [1])).shape == outputs(model).shape
    twin = merge(copy.deepcopy(model))
    keep_hidden(model, range(24)), keep_hidden(twin, range(24))
    assert torch.allclose(outputs(model), outputs(twin), atol=1e-5)


def test_the_shift_goes_to_the_bias():
    model = tiny_model()
    name = "bert.encoder.layer.0.output.dense"
    before = model.get_submodule(name).bias.detach().clone()
    weight = model.get_submodule(name).weight.detach()
    put_factors(model, {name: Factors(torch.eye(weight.shape[1]), weight, torch.full_like(before, 2.0))})
    assert torch.equal(model.get_submodule(name).bias, before + 2)


def test_both_halves_are_trained():
    model = factorized(tiny_model(), rank=5)
    model(**tiny_inputs(model))[0].sum().backward()
    layer = model.get_submodule("bert.encoder.layer.0.output.dense")
    assert layer.down.weight.grad.abs().sum() > 0
    assert layer.up.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("entry", [{"low_rank": [32, 5]}, {"low_rank": [32, 0, 64]}, {"low_rank": 5}])
def test_a_damaged_entry_is_refused(entry, tmp_path):
    model = factorized(tiny_model(), rank=5)
    structure = structure_of(model.config)
    structure.modules["encoder.layer.0.output.dense"] = entry
    model.config.quantization_config = structure
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"encoder\.layer\.0\.output\.dense"):
        type(model).from_pretrained(tmp_path)
