"""Dropping whole layers: the right ones, by similarity and by loss, and only what a config can express."""

import math

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from hfcompress.calibration import calibration_batches
from hfcompress.config import parse
from hfcompress.errors import ModelError, RequestError
from hfcompress.modeling.cut import cut
from hfcompress.modeling.layer_patterns import stack_depths
from hfcompress.pruning.layers import LayersConfig, distances, layers, plan
from hfcompress.registry import find
from tests.pruning.contexts import tiny_context
from tests.tiny import tiny_head, tiny_inputs, tiny_model

DEPTH = 4


def weakened(layer, depth=DEPTH):
    """A classifier, one of whose layers adds almost nothing to its input: without it the answers hardly change."""
    model = tiny_head("gpt2", "ForSequenceClassification", depth)
    with torch.no_grad():
        for projection in (model.transformer.h[layer].attn.c_proj, model.transformer.h[layer].mlp.c_proj):
            projection.weight.mul_(1e-4)
            projection.bias.zero_()
        for other in range(depth):
            if other != layer:
                model.transformer.h[other].mlp.c_proj.weight.mul_(40)
    return model


def kept_of(model, pruned):
    """Which of a model's layers the pruned one has, told by their weights."""
    before, after = model.transformer.h, pruned.transformer.h
    return [
        next(i for i, old in enumerate(before) if torch.equal(old.mlp.c_fc.weight, new.mlp.c_fc.weight))
        for new in after
    ]


@pytest.mark.parametrize("idle", range(DEPTH))
def test_the_layer_that_does_nothing_goes(idle, tmp_path):
    model = weakened(idle)
    pruned = layers(model, LayersConfig(count=1, by="similarity"), tiny_context(tmp_path))
    assert kept_of(model, pruned) == [layer for layer in range(DEPTH) if layer != idle]
    batch = tiny_inputs(model)
    with torch.no_grad():
        torch.testing.assert_close(pruned(**batch).logits, model(**batch).logits, rtol=0.02, atol=0.05)


def test_distances_by_hand(tmp_path):
    """Of hidden states that the model gives away itself; the last are normed, so not compared here."""
    model, context = tiny_model("bert", 3), tiny_context(tmp_path)
    batches = calibration_batches(model, context, 10, 4)
    found = distances(model, 0, context, batches)
    angles = []
    for batch in batches:
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        with torch.no_grad():
            hidden = model(**inputs, output_hidden_states=True).hidden_states
        for row, length in enumerate(batch["attention_mask"].sum(dim=1).tolist()):
            states = torch.stack(hidden)[:, row, :length].double()
            angles.append(torch.cosine_similarity(states[:-1], states[1:], dim=-1).arccos() / math.pi)
    torch.testing.assert_close(torch.tensor(found).double(), torch.cat(angles, dim=1).mean(dim=1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("by", ["similarity", "loss"])
@pytest.mark.parametrize(
    "family",
    ["bert", "distilbert", "albert", "modernbert", "mobilebert", "squeezebert", "deberta-v2", "llama", "mpnet"],
)
def test_every_family_comes_out_as_a_stock_checkpoint(family, by, tmp_path):
    model = tiny_head(family, "ForSequenceClassification", layers=3)
    config = LayersConfig(keep=2, examples=6)
    pruned = layers(model, config, tiny_context(tmp_path))
    assert stack_depths(pruned.config) == stack_depths(plan(config, model.config, {})) == (2,)
    pruned.save_pretrained(tmp_path / "out")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    batch = tiny_inputs(model)
    with torch.no_grad():
        assert torch.equal(again(**batch).logits, pruned(**batch).logits)


def test_modernbert_keeps_its_first_layer_even_where_it_does_least(tmp_path):
    model = tiny_head("modernbert", "ForSequenceClassification", layers=3)
    with torch.no_grad():
        for projection in (model.model.layers[0].attn.Wo, model.model.layers[0].mlp.Wo):
            projection.weight.zero_()
    pruned = layers(model, LayersConfig(keep=1, by="similarity"), tiny_context(tmp_path))
    assert torch.equal(pruned.model.layers[0].mlp.Wi.weight, model.model.layers[0].mlp.Wi.weight)


@pytest.mark.parametrize("family", ["bart", "t5"])
@pytest.mark.parametrize(("stack", "depths"), [(None, (3, 1)), ("decoder", (3, 1)), ("encoder", (1, 3))])
def test_of_an_encoder_decoder_one_stack_is_cut(family, stack, depths, tmp_path):
    model = tiny_head(family, "ForSequenceClassification", layers=3, eos_token_id=3)
    config = LayersConfig(keep=1, stack=stack, examples=4)
    pruned = layers(model, config, tiny_context(tmp_path))
    assert stack_depths(pruned.config) == depths == stack_depths(plan(config, model.config, {}))
    with torch.no_grad():
        assert torch.isfinite(pruned(**tiny_inputs(pruned)).logits).all()


def test_without_a_task_loss_the_answers_decide(tmp_path):
    from dataclasses import replace

    from datasets import Dataset

    from hfcompress.data import TaskData
    from hfcompress.tasks import find_task

    context = tiny_context(tmp_path)
    texts = context.data.train["text"]
    rows = Dataset.from_dict({"text": texts, "text_pair": texts[::-1], "labels": [0.5] * len(texts)})
    context = replace(context, task=find_task("sentence-similarity"), data=TaskData(rows, rows, (), None))
    model = weakened(1).transformer
    pruned = layers(model, LayersConfig(count=1, examples=8), context)
    assert [torch.equal(pruned.h[i].mlp.c_fc.weight, model.h[j].mlp.c_fc.weight) for i, j in enumerate((0, 2, 3))] == [
        True,
        True,
        True,
    ]


def test_nothing_to_drop_gives_the_model_back(tmp_path):
    model = tiny_model()
    assert layers(model, LayersConfig(count=0), tiny_context(tmp_path)) is model
    assert layers(model, LayersConfig(keep=2), tiny_context(tmp_path)) is model


def test_the_model_itself_and_its_mode_stay(tmp_path):
    model = tiny_model(layers=3).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pruned = layers(model, LayersConfig(count=1), tiny_context(tmp_path))
    assert model.training
    assert pruned.training
    assert model.config.num_hidden_layers == 3
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(layer._forward_hooks for layer in model.bert.encoder.layer)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": 2}, r"count: the model has 2 layers, got 2\. Allowed: 0 to 1"),
        ({"count": 7}, r"count: the model has 2 layers, got 7"),
        ({"keep": 3}, r"keep: the model has 2 layers, got 3\. Allowed: 1 to 2"),
        ({"keep": 1, "stack": "decoder"}, r"stack: bert has one stack"),
    ],
)
def test_what_cannot_be_dropped_is_said(given, message, tmp_path):
    with pytest.raises(RequestError, match=message):
        layers(tiny_model(), LayersConfig(**given), tiny_context(tmp_path))


@pytest.mark.parametrize("given", [{}, {"count": 1, "keep": 1}])
def test_one_of_count_and_keep_is_given(given):
    with pytest.raises(RequestError, match="count or keep"):
        parse(LayersConfig, given)


def test_convolutional_networks_cannot_be_cut(tmp_path):
    with pytest.raises(ModelError, match="cannot be cut"):
        layers(tiny_head("resnet", "ForImageClassification"), LayersConfig(count=1), tiny_context(tmp_path))


def test_hidden_states_that_are_no_numbers_name_the_layer(tmp_path):
    model = tiny_model(layers=3)
    with torch.no_grad():
        model.bert.encoder.layer[1].output.LayerNorm.bias[0] = float("nan")
    with pytest.raises(ModelError, match="layer 1"):
        layers(model, LayersConfig(count=1), tiny_context(tmp_path))


def test_dropping_one_after_another_is_greedy(tmp_path):
    """With all layers as candidates the first drop is the best single one, and the second the best after it."""
    from hfcompress.calibration import calibration_batches
    from hfcompress.pruning.layers import _loss

    model, context = tiny_model(layers=DEPTH), tiny_context(tmp_path)
    batches = calibration_batches(model, context, 24, 8, labelled=True)
    kept = list(range(DEPTH))
    with torch.no_grad():
        for _ in range(2):
            tried = [[layer for layer in kept if layer != gone] for gone in kept]
            kept = min(tried, key=lambda left: _loss(cut(model, left), context, batches, None))
    pruned = layers(model, LayersConfig(count=2, examples=24, batch_size=8), context)
    expected = cut(model, kept)
    assert all(torch.equal(tensor, expected.state_dict()[name]) for name, tensor in pruned.state_dict().items())


def test_it_is_a_step_with_a_plan():
    method = find("pruning", "layers")
    assert method.target is layers
    assert method.plan is plan
