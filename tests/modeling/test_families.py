"""The block table: every parameter of every family belongs to the right component, and every name in a row exists."""

from collections import Counter

import pytest
from torch import nn
from transformers import AutoModel
from transformers.pytorch_utils import Conv1D

from hfcompress.errors import ModelError
from hfcompress.modeling.families import FAMILIES as TABLE
from hfcompress.modeling.families import blocks_of, component_of, layers_of, layers_prefix, stacks_of
from tests.tiny import CONVOLUTIONAL, FAMILIES, HEADS, tiny_config, tiny_head, tiny_model

# By hand for 2 layers, width 32, 4 heads, FFN 64, 64 words, 80 positions, 2 classes; a Linear is in · out + out, a
# LayerNorm 2 · width.
LAYERS = {"attention": 2 * 4 * (32 * 32 + 32), "ffn": 2 * (32 * 64 + 64 + 64 * 32 + 32), "norm": 2 * 2 * 64}
HEAD = {"head": (32 * 32 + 32) + (32 * 2 + 2)}
EMBEDDINGS = {
    "bert": 64 * 32 + 80 * 32 + 2 * 32 + 64,
    "roberta": 64 * 32 + 80 * 32 + 2 * 32 + 64,
    "xlm-roberta": 64 * 32 + 80 * 32 + 2 * 32 + 64,
    "distilbert": 64 * 32 + 80 * 32 + 64,
    "mpnet": 64 * 32 + 80 * 32 + 64 + 32 * 4,  # 32 buckets of relative positions
    "electra": 64 * 16 + 80 * 16 + 2 * 16 + 32 + (16 * 32 + 32),  # and the projection from 16 to 32
}


def components(model):
    sizes = Counter()
    for name, parameter in model.named_parameters():
        sizes[component_of(name, model.config.model_type, layers_prefix(model))] += parameter.numel()
    return sizes


def test_the_tiny_families_are_the_table():
    assert set(HEADS) == set(TABLE)


@pytest.mark.parametrize("family", FAMILIES)
def test_components_have_the_sizes_counted_by_hand(family):
    model = tiny_model(family)
    assert components(model) == {"embeddings": EMBEDDINGS[family], **LAYERS, **HEAD}
    assert components(model).total() == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_bare_model_is_divided_alike(family):
    model = AutoModel.from_config(tiny_config(family))
    sizes = components(model)
    assert sizes.pop("head", 0) in (0, 32 * 32 + 32)  # a pooler, where the family has one
    assert sizes == {"embeddings": EMBEDDINGS[family], **LAYERS}


@pytest.mark.parametrize(
    ("name", "family", "expected"),
    [
        ("bert.embeddings.LayerNorm.weight", "bert", "embeddings"),
        ("bert.encoder.layer.1.attention.output.LayerNorm.bias", "bert", "norm"),
        ("bert.encoder.layer.1.attention.output.dense.bias", "bert", "attention"),
        ("bert.encoder.layer.11.output.dense.weight", "bert", "ffn"),
        ("bert.pooler.dense.weight", "bert", "head"),
        ("mpnet.encoder.relative_attention_bias.weight", "mpnet", "embeddings"),
        ("electra.embeddings_project.weight", "electra", "embeddings"),
        ("distilbert.transformer.layer.0.sa_layer_norm.weight", "distilbert", "norm"),
        ("pre_classifier.weight", "distilbert", "head"),
        ("classifier.out_proj.bias", "roberta", "head"),
    ],
)
def test_single_parameters_are_where_one_expects_them(name, family, expected):
    assert component_of(name, family, f"{family}.{blocks_of(family).layers}") == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_every_name_in_a_row_is_a_module_of_the_right_shape(family):
    model, row = tiny_model(family, layers=3), blocks_of(family)
    assert len(layers_of(model)) == getattr(model.config, row.depth) == 3
    assert isinstance(model.base_model.get_submodule(row.embeddings), nn.Module)
    for layer in layers_of(model):
        for name in (row.query, row.key, row.value, row.attention_output):
            assert layer.get_submodule(name).weight.shape == (32, 32)
        assert [tuple(layer.get_submodule(name).weight.shape) for name in row.ffn] == [(64, 32), (32, 64)]


@pytest.mark.parametrize(("family", "place"), [("bert", "encoder.layer"), ("distilbert", "transformer.layer")])
def test_says_where_the_layers_stand_in_the_state_dict(family, place):
    assert layers_prefix(tiny_model(family)) == f"{family}.{place}"
    assert layers_prefix(AutoModel.from_config(tiny_config(family))) == place


def test_the_row_in_the_message_has_the_fields_of_a_plain_row():
    with pytest.raises(ModelError) as error:
        blocks_of("xlnet")
    fields = ("layers", "embeddings", "depth", "query", "key", "value", "attention_output", "ffn")
    assert all(f"{field}=..." in str(error.value) or f"{field}=(..." in str(error.value) for field in fields)


# By hand for 2 layers of width 32, FFN 64; a Linear without bias is in · out.
ATTENTION, FFN, NORM = 32 * 32, 2 * 32 * 64, 32
WITH_BIAS = {"attention": 2 * (4 * ATTENTION + 4 * 32), "ffn": 2 * (FFN + 64 + 32), "norm": 2 * 4 * NORM}
GROUPED = 32 * 32 // 2 + 32  # a convolution in two groups
OTHERS = {
    "albert": {"embeddings": (64 + 80 + 2) * 16 + 2 * 16 + 16 * 32 + 32} | {k: v // 2 for k, v in WITH_BIAS.items()},
    "deberta-v2": {"embeddings": (64 + 80) * 32 + 64 + 16 * 32 + 64, **WITH_BIAS},  # 16 relative positions and a norm
    "modernbert": {
        "embeddings": 64 * 32 + 32,
        "attention": 2 * 4 * ATTENTION,
        "ffn": 2 * (32 * 128 + 64 * 32),  # gated: twice the width goes in
        "norm": 2 * 2 * 32 - 32,  # the first layer lacks one
    },
    "squeezebert": {
        "embeddings": (64 + 80 + 2) * 32 + 64,
        "attention": 2 * (3 * GROUPED + 32 * 32 + 32),
        "ffn": 2 * (2 * 32 * 64 // 2 + 64 + 32),
        "norm": 2 * 4 * 32,
    },
    "mobilebert": {
        "embeddings": 64 * 16 + 82 * 32 + 48 * 32 + 32 + 64,  # three neighbouring words at a time are widened to 32
        "attention": 2 * (3 * (16 * 16 + 16) + 32 * 16 + 16),  # values come from outside the bottleneck
        "ffn": 2 * 2 * (2 * 16 * 64 + 64 + 16),
        "bottleneck": 2 * (2 * (32 * 16 + 16) + 16 * 32 + 32),
        "norm": 2 * 2 * (5 * 16 + 32),
    },
    "bart": {
        "embeddings": 64 * 32 + 2 * (82 * 32 + 64),
        "attention": 3 * WITH_BIAS["attention"],  # of encoder and decoder, and of the decoder to the encoder
        "ffn": 2 * WITH_BIAS["ffn"],
        "norm": 2 * 5 * 64,
    },
    "t5": {
        "embeddings": 64 * 32 + 2 * 32 * 4,  # and 32 buckets of relative positions for encoder and decoder
        "attention": 3 * 2 * 4 * ATTENTION,
        "ffn": 2 * 2 * FFN,
        "norm": 2 * 5 * 32,
    },
    "mt5": {
        "embeddings": 64 * 32 + 2 * 32 * 4,
        "attention": 3 * 2 * 4 * ATTENTION,
        "ffn": 2 * 2 * 3 * 32 * 64,  # gated
        "norm": 2 * 5 * 32,
    },
    "gpt2": {
        "embeddings": 64 * 32 + 80 * 32,
        "attention": WITH_BIAS["attention"],
        "ffn": 2 * (2 * 32 * 128 + 128 + 32),  # four times the width
        "norm": WITH_BIAS["norm"],
    },
    **dict.fromkeys(
        ["llama", "qwen2"],
        {"embeddings": 64 * 32, "attention": 2 * 3 * ATTENTION, "ffn": 2 * 3 * 32 * 64, "norm": 2 * 2 * 32},
    ),
    "qwen3": {  # heads of 16
        "embeddings": 64 * 32,
        "attention": 2 * (2 * 64 * 32 + 2 * 32 * 32),
        "ffn": 2 * 3 * 32 * 64,
        "norm": 2 * (2 * 32 + 2 * 16),
    },
    "vit": {"embeddings": 32 + 5 * 32 + 3 * 8 * 8 * 32 + 32, **WITH_BIAS},
    "resnet": {
        "embeddings": 3 * 8 * 49 + 16,
        "convolution": 9 * (2 * 8 * 8 + 8 * 16 + 3 * 16 * 16) + 8 * 16,
        "norm": 2 * (2 * 8 + 4 * 16 + 16),
    },
}
OTHERS["qwen2"] = OTHERS["qwen2"] | {"attention": 2 * (3 * ATTENTION + 32 + 16 + 16)}


@pytest.mark.parametrize("family", OTHERS)
def test_components_of_other_families_have_the_sizes_counted_by_hand(family):
    model = tiny_head(family)
    found = components(model)
    assert found.total() == sum(parameter.numel() for parameter in model.parameters())
    found.pop("head", None)
    assert found == OTHERS[family]


@pytest.mark.parametrize("family", sorted(set(HEADS) - set(CONVOLUTIONAL)))
def test_every_name_in_every_row_is_a_module_and_nothing_is_left_over(family):
    model = tiny_head(family, HEADS[family][-1], layers=2)
    for row, layers in stacks_of(model):
        assert getattr(model.config, row.depth) == 2
        for layer in layers:
            found = dict(layer.named_modules())
            assert set(row.attention) <= set(found)
            assert any(name in found for name in row.ffn)
            linear = {name for name, part in found.items() if isinstance(part, (nn.Linear, nn.Conv1d, Conv1D))}
            assert linear <= {*row.attention, *row.also_heads, *row.ffn_layers, *row.bottleneck}


@pytest.mark.parametrize(("family", "stages"), [("resnet", 2), ("mobilenet_v1", 26), ("mobilenet_v2", 16)])
def test_convolutional_networks_say_what_they_can(family, stages):
    model = tiny_head(family, "ForImageClassification")
    assert len(layers_of(model)) == stages
    assert blocks_of(family).attention == ()
    assert set(components(model)) == {"embeddings", "convolution", "norm", "head"}


@pytest.mark.parametrize(
    ("family", "head", "stacks"),
    [
        ("bart", "ForCausalLM", ["decoder.layers"]),
        ("bart", "ForSeq2SeqLM", ["encoder.layers", "decoder.layers"]),
        ("t5", "ForTokenClassification", ["encoder.block"]),
        ("t5", "ForQuestionAnswering", ["encoder.block", "decoder.block"]),
    ],
)
def test_says_which_stacks_a_model_has(family, head, stacks):
    model = tiny_head(family, head)
    assert [row.layers for row, _ in stacks_of(model)] == stacks
    assert layers_prefix(model).endswith(stacks[0])
    assert components(model)["attention"] > 0
