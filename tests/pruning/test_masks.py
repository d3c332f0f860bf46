"""Masking weights while a model runs; its parameters stay dense and keep their names."""

import copy

import pytest
import torch
from torch import nn

from hfcompress.pruning.masks import Masks
from tests.tiny import tiny_head, tiny_inputs, tiny_model

QUERY = "bert.encoder.layer.0.attention.self.query.weight"
NARROW = "bert.encoder.layer.1.output.dense.weight"
BIAS = "bert.encoder.layer.0.intermediate.dense.bias"
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def bert():
    return tiny_model(**NO_DROPOUT)


def masks_for(model, names, seed=0):
    """Mask about half of some parameters, at random."""
    generator = torch.Generator().manual_seed(seed)
    masks = Masks(model, names)
    for name in names:
        masks.by_name[name] = torch.rand(model.get_parameter(name).shape, generator=generator) < 0.5
    return masks


def zeroed(model, masks):
    """A copy whose masked weights are zero."""
    other = copy.deepcopy(model)
    Masks(other, []).remove()
    for module in other.modules():
        module._forward_pre_hooks.clear()
        module._forward_hooks.clear()
    with torch.no_grad():
        for name, mask in masks.by_name.items():
            other.get_parameter(name).mul_(mask)
    return other


def logits(model):
    return model(**tiny_inputs(model)).logits


def gradients(model):
    logits(model).square().sum().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def test_a_masked_model_answers_as_one_with_zeros():
    model = bert()
    dense = logits(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    masks = masks_for(model, [QUERY, NARROW, BIAS])
    assert torch.equal(logits(model), logits(zeroed(model, masks)))
    assert not torch.equal(logits(model), dense)
    assert {name: tensor.tolist() for name, tensor in model.state_dict().items()} == {
        name: tensor.tolist() for name, tensor in before.items()
    }
    assert model.get_parameter(QUERY) is dict(model.named_parameters())[QUERY]


def test_masked_weights_get_no_gradient_and_the_others_that_of_a_model_with_zeros():
    model = bert()
    masks = masks_for(model, [QUERY, NARROW])
    got, expected = gradients(model), gradients(zeroed(model, masks))
    assert got.keys() == expected.keys()
    for name, gradient in got.items():
        mask = masks.by_name.get(name, torch.tensor(True))
        torch.testing.assert_close(gradient, expected[name] * mask, rtol=0, atol=0)


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_masks_again(reentrant):
    model = bert().train()
    masks_for(model, [QUERY, NARROW])
    plain = gradients(model)
    model.zero_grad()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    again = gradients(model)
    assert all(torch.equal(again[name], plain[name]) for name in plain)
    assert model.bert.encoder.layer[0].attention.self.query.weight is model.get_parameter(QUERY)


def test_gradients_flow_into_a_mask_that_a_function_gives():
    layer = nn.Linear(2, 1, bias=False)
    nn.init.constant_(layer.weight, 3.0)
    scores = torch.tensor([[1.0, -1.0]], requires_grad=True)
    masks = Masks(layer, ["weight"])
    masks.by_name["weight"] = lambda: (scores > 0).float() + scores - scores.detach()
    output = layer(torch.tensor([[5.0, 7.0]]))
    output.sum().backward()
    assert output.item() == 15
    assert layer.weight.grad.tolist() == [[5, 0]]
    assert scores.grad.tolist() == [[15, 21]]  # input times weight, also where the mask is 0


def test_autocast_reads_the_masked_weights():
    model = bert()
    masks = masks_for(model, [QUERY, NARROW])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(logits(model), logits(zeroed(model, masks)))


def test_half_precision_stays_half():
    model = bert().to(torch.bfloat16)
    masks_for(model, [QUERY])
    assert logits(model).dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"])
def test_a_tied_weight_is_masked_on_both_sides(name):
    model = tiny_head("bert", "ForMaskedLM")
    masks = Masks(model, [name])
    masks.by_name[name] = torch.zeros(64, 32, dtype=torch.bool)
    bias = model.cls.predictions.decoder.bias
    assert torch.equal(logits(model), bias.expand_as(logits(model)))
    assert torch.equal(model.bert.embeddings.word_embeddings(torch.tensor([7])), torch.zeros(1, 32))


def test_a_module_that_runs_several_times_is_masked_each_time():
    model = tiny_head("albert", "ForSequenceClassification", layers=3)
    name = "albert.encoder.albert_layer_groups.0.albert_layers.0.ffn.weight"
    masks = masks_for(model, [name])
    assert torch.equal(logits(model), logits(zeroed(model, masks)))


def test_a_parameter_without_a_mask_stays_as_it_is():
    model = bert()
    dense = logits(model)
    masks = masks_for(model, [QUERY])
    del masks.by_name[QUERY]
    assert torch.equal(logits(model), dense)


def test_a_deep_copy_is_masked_for_itself():
    model = bert()
    masks = masks_for(model, [QUERY, NARROW])
    expected = logits(model)
    other = copy.deepcopy(model)
    masks.remove()
    assert torch.equal(logits(other), expected)
    other.get_parameter(QUERY).data.zero_()
    assert not torch.equal(logits(model), expected)


def test_a_forward_pass_that_fails_leaves_the_parameter():
    model = bert()
    masks_for(model, [QUERY])
    query = model.bert.encoder.layer[0].attention.self.query
    with pytest.raises(RuntimeError):
        query(torch.zeros(2, 5))
    assert query.weight is model.get_parameter(QUERY)


def test_masks_made_true_are_zeros_and_leave_no_hook():
    model = bert()
    masks = masks_for(model, [QUERY, NARROW])
    chosen = dict(masks.by_name)
    expected = logits(model)
    masks.apply()
    masks.remove()
    assert torch.equal(logits(model), expected)
    for name, mask in chosen.items():
        weight = model.get_parameter(name)
        assert not weight[~mask].any()
        assert not weight[~mask].signbit().any()
        assert weight[mask].all()
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def test_an_unknown_parameter_is_an_error():
    with pytest.raises(AttributeError):
        Masks(bert(), ["bert.nothing.weight"])
