"""The block table: every parameter of every family belongs to the right component, and every name in a row exists."""

import dataclasses
from collections import Counter

import pytest
from torch import nn
from transformers import AutoModel

from hfcompress.errors import ModelError
from hfcompress.modeling.families import FAMILIES as TABLE
from hfcompress.modeling.families import Blocks, blocks_of, component_of, layers_of, layers_prefix
from tests.tiny import FAMILIES, tiny_config, tiny_model

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
    assert set(FAMILIES) == set(TABLE)


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


def test_the_row_in_the_message_has_all_the_fields_of_a_row():
    with pytest.raises(ModelError) as error:
        blocks_of("gpt2")
    assert all(f"{field.name}=" in str(error.value) for field in dataclasses.fields(Blocks))
