"""Recorded projections are what attention reads: put through attention by hand they give the layer's own output."""

import pytest
import torch

from hfcompress.errors import ModelError
from hfcompress.modeling.families import blocks_of, layers_of, stacks_of
from hfcompress.modeling.projections import attention_heads, head_size, key_value_heads, record_projections
from tests.tiny import CONVOLUTIONAL, HEADS, tiny_head, tiny_inputs, tiny_model

WITH_ATTENTION = sorted(set(HEADS) - set(CONVOLUTIONAL))
every_family = pytest.mark.parametrize("family", WITH_ATTENTION)


def last_head(family):
    return HEADS[family][-1]


def module_inputs(model, module):
    """What a module receives in each of its calls."""
    seen = []
    handle = module.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append((*args, *kwargs.values())[0]), with_kwargs=True
    )
    with torch.no_grad():
        model(**tiny_inputs(model))
    handle.remove()
    return seen


def projected_by_hand(model, layer):
    """Query, key and value of a layer: its weights times what its linear layers receive, cut into heads."""
    blocks, modules = stacks_of(model)[0]
    number, call = (0, layer) if blocks.shared else (layer, 0)
    names = [blocks.fused] if blocks.fused else [blocks.query, blocks.key, blocks.value]
    outputs = []
    for name in names:
        module = modules[number].get_submodule(name)
        received = module_inputs(model, module)[call]
        weight, bias = module.weight, module.bias
        if weight.dim() == 3:  # a grouped convolution: each group of channels is multiplied by its own rows
            parts = zip(received.transpose(1, 2).chunk(module.groups, -1), weight.chunk(module.groups), strict=True)
            output = torch.cat([part @ rows.squeeze(-1).T for part, rows in parts], dim=-1)
        else:
            output = received @ (weight if name == "attn.c_attn" else weight.T)
        outputs += [(output if bias is None else output + bias)]
    width = head_size(model.config)
    if blocks.fused:
        third = outputs[0].shape[-1] // 3
        outputs = [outputs[0][..., part * third : (part + 1) * third] for part in range(3)]
    return [torch.stack(output.split(width, dim=-1), dim=2) for output in outputs]


@every_family
def test_they_are_the_weights_times_the_input_cut_into_heads(family):
    model = tiny_head(family, last_head(family), layers=3)
    with torch.no_grad(), record_projections(model, [0, 2]) as recorded:
        model(**tiny_inputs(model))
        found = {layer: recorded[layer] for layer in (0, 2)}
    for layer, projections in found.items():
        for ours, expected in zip(projections, projected_by_hand(model, layer), strict=True):
            assert torch.allclose(ours, expected, atol=1e-6)


@every_family
def test_shapes_are_batch_tokens_heads_and_head_size(family):
    model = tiny_head(family, last_head(family))
    batch = tiny_inputs(model)
    with record_projections(model, [1]) as recorded:
        model(**batch)
        query, key, value = recorded[1]
    tokens = (2, 5) if family == "vit" else (3, 9)
    size = {"mobilebert": 16 // 4, "qwen3": 16}.get(family, 8)
    heads = 2 if family in ("llama", "qwen2", "qwen3") else 4
    assert query.shape == (*tokens, 4, size)
    assert key.shape == value.shape == (*tokens, heads, size)
    assert (attention_heads(model.config), key_value_heads(model.config), head_size(model.config)) == (4, heads, size)


@every_family
def test_gradients_flow_into_the_model_and_hooks_go(family):
    model = tiny_head(family, last_head(family))
    modules = list(model.modules())
    before = [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in modules]
    with record_projections(model, [0, 1]) as recorded:
        model(**tiny_inputs(model))
        sum(part.pow(2).sum() for part in recorded[1]).backward()
    assert [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in modules] == before
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in layers_of(model)[0].parameters())


def test_hooks_go_when_the_model_fails():
    model = tiny_model("bert")
    with pytest.raises((TypeError, ValueError)), record_projections(model, [0]):
        model(nonsense=1)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_attention_by_hand_from_the_recorded_gives_what_the_model_attends():
    model = tiny_model("bert", attn_implementation="eager")
    batch = tiny_inputs(model)
    batch["attention_mask"] = torch.ones_like(batch["attention_mask"])
    with torch.no_grad(), record_projections(model, [0]) as recorded:
        attended = model(**batch, output_attentions=True).attentions[0]
        query, key, _ = recorded[0]
    scores = torch.einsum("bqhd,bkhd->bhqk", query, key) / 8**0.5
    assert torch.allclose(scores.softmax(-1), attended, atol=1e-6)


def test_the_latest_forward_pass_counts():
    model = tiny_model("albert")
    batch = tiny_inputs(model)
    other = {**batch, "input_ids": batch["input_ids"].flip(0)}
    with torch.no_grad(), record_projections(model, [0, 1]) as recorded:
        model(**batch)
        first = recorded[1].query
        model(**other)
        assert not torch.equal(recorded[1].query, first)
        model(**batch)
        assert torch.equal(recorded[1].query, first)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_gradient_checkpointing_records_the_forward_pass(family):
    without = {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0} if family == "bert" else {}
    model = tiny_head(family, "ForSequenceClassification", **without)
    with torch.no_grad(), record_projections(model, [1]) as recorded:
        model(**tiny_inputs(model))
        expected = recorded[1].query
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    with record_projections(model, [1]) as recorded:
        model(**tiny_inputs(model)).logits.sum().backward()
        assert torch.allclose(recorded[1].query, expected, atol=1e-6)


@pytest.mark.parametrize("family", CONVOLUTIONAL)
def test_a_model_without_attention_is_refused(family):
    with (
        pytest.raises(ModelError, match=f"{family} has no attention: it has no queries, keys and values."),
        record_projections(tiny_head(family), [0]),
    ):
        pass


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_layers_that_do_not_exist_are_refused(family):
    with (
        pytest.raises(ModelError, match="the model has no layer -1, 2. Its 2 layers are counted from 0 to 1."),
        record_projections(tiny_model(family), [2, 0, -1]),
    ):
        pass


def test_they_are_a_mapping_from_layer_to_projections():
    model = tiny_model("bert")
    with record_projections(model, [1, 0]) as recorded:
        model(**tiny_inputs(model))
        copied = dict(recorded)
    assert list(copied) == [1, 0]
    assert len(recorded) == 2
    assert torch.equal(copied[1].key, recorded[1].key)


def test_a_layer_that_did_not_run_is_named():
    with (
        record_projections(tiny_model("bert"), [1]) as recorded,
        pytest.raises(ModelError, match="layer 1 did not run"),
    ):
        _ = recorded[1]


def test_tokens_without_rows_are_refused():
    model = tiny_model("bert")
    with record_projections(model, [0]) as recorded:
        model.base_model.get_submodule(f"{blocks_of('bert').layers}.0.attention.self.query")(torch.rand(5, 32))
        with pytest.raises(ModelError, match="leaves padding out, .* Load it with attn_implementation='sdpa'."):
            _ = recorded[0]


def test_a_decoder_alone_has_the_heads_of_the_decoder():
    model = tiny_head("bart", "ForCausalLM", decoder_attention_heads=2)
    with record_projections(model, [0]) as recorded:
        model(**tiny_inputs(model))
        assert recorded[0].query.shape == (3, 9, 2, 16)


def test_each_layer_that_shares_weights_has_its_own():
    model = tiny_head("albert", layers=5, num_hidden_groups=2)
    with torch.no_grad(), record_projections(model, range(5)) as recorded:
        states = model(**tiny_inputs(model), output_hidden_states=True).hidden_states
        for layer, group in enumerate([0, 0, 0, 1, 1]):
            query = model.encoder.albert_layer_groups[group].albert_layers[0].attention.query
            assert torch.allclose(recorded[layer].query.flatten(2), query(states[layer]), atol=1e-6)
