"""Removing heads and neurons in fact: what is left computes what the masked model computed, for every family."""

import copy

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from hfcompress.errors import ModelError
from hfcompress.measure.structure import layer_structure
from hfcompress.modeling.emptied import Constant, Zeros
from hfcompress.modeling.groups import groups_of
from hfcompress.modeling.masking import masked
from hfcompress.modeling.surgery import keep_units
from tests.tiny import CONVOLUTIONAL, ENCODER_DECODERS, HEADS, tiny_head, tiny_inputs, tiny_model

TRANSFORMERS = sorted(set(HEADS) - set(CONVOLUTIONAL))
every_family = pytest.mark.parametrize("family", TRANSFORMERS)


def outputs(model):
    with torch.no_grad():
        return model(**tiny_inputs(model))[0]


def some(groups):
    """Units to keep, other ones in each group."""
    return {g.name: [unit for unit in range(g.units) if (unit + i) % 3] for i, g in enumerate(groups)}


def with_emptied(groups):
    """The same, but every third group loses all it has."""
    return {name: units if i % 3 else [] for i, (name, units) in enumerate(some(groups).items())}


def nothing(groups):
    return {group.name: [] for group in groups}


def masks_for(groups, kept):
    masks = {group.name: torch.zeros(group.units) for group in groups if group.name in kept}
    for name, mask in masks.items():
        mask[kept[name]] = 1
    return masks


def masked_outputs(model, kept):
    groups = groups_of(model)
    with masked(model, groups, masks_for(groups, kept)):
        return outputs(model)


@pytest.mark.parametrize("choose", [some, with_emptied, nothing])
@every_family
def test_removed_equals_masked(family, choose):
    model = tiny_head(family, HEADS[family][-1])
    kept = choose(groups_of(model))
    expected = masked_outputs(model, kept)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    keep_units(model, kept)
    assert torch.allclose(outputs(model), expected, atol=1e-5)
    assert sum(parameter.numel() for parameter in model.parameters()) < parameters


@pytest.mark.parametrize("family", CONVOLUTIONAL)
def test_removed_filters_equal_masked_ones_behind_the_last_norm(family):
    model = tiny_head(family, "ForImageClassification")
    groups = groups_of(model, ["filters"])
    kept = some(groups)
    masks = masks_for(groups, kept)
    with masked(model, groups, masks):
        expected = outputs(model)
    keep_units(model, kept)
    assert torch.allclose(outputs(model), expected, atol=1e-5)


@every_family
def test_keeping_everything_changes_no_bit(family):
    model = tiny_head(family, HEADS[family][-1])
    before = outputs(model)
    config = model.config.to_dict()
    keep_units(model, {group.name: range(group.units) for group in groups_of(model)})
    keep_units(model, {})
    assert torch.equal(outputs(model), before)
    assert model.config.to_dict() == config


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_set_of_heads_and_neurons_can_go(data):
    model = tiny_model("bert", seed=data.draw(st.integers(0, 9)), intermediate_size=6)
    kept = {group.name: sorted(data.draw(st.sets(st.integers(0, group.units - 1)))) for group in groups_of(model)}
    expected = masked_outputs(model, kept)
    assert torch.allclose(outputs(keep_units(model, kept)), expected, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "t5", "gpt2", "llama", "modernbert", "mpnet", "squeezebert"])
def test_prunes_again_what_was_pruned(family):
    model = tiny_head(family, HEADS[family][-1])
    keep_units(model, some(groups_of(model)))
    kept = with_emptied(groups_of(model))
    expected = masked_outputs(model, kept)
    assert torch.allclose(outputs(keep_units(model, kept)), expected, atol=1e-5)


def test_heads_keep_their_first_numbers():
    model = tiny_model("bert", layers=1)
    keep_units(model, {"encoder.layer.0.heads": [0, 2, 3]})
    keep_units(model, {"encoder.layer.0.heads": [1, 2]})
    assert model.config.quantization_config.heads == {"encoder.layer.0.heads": {"kept": [2, 3], "of": 4}}


def test_layers_are_really_narrower():
    model = tiny_model("bert", layers=2)
    keep_units(model, {"encoder.layer.1.heads": [3], "encoder.layer.1.neurons": range(10)})
    layer = model.bert.encoder.layer[1]
    sizes = {name: tuple(module.weight.shape) for name, module in layer.named_modules() if hasattr(module, "weight")}
    assert sizes["attention.self.query"] == sizes["attention.self.key"] == sizes["attention.self.value"] == (8, 32)
    assert sizes["attention.output.dense"] == (32, 8)
    assert (sizes["intermediate.dense"], sizes["output.dense"]) == ((10, 32), (32, 10))
    assert (layer.intermediate.dense.out_features, layer.output.dense.in_features) == (10, 10)
    assert layer.intermediate.dense.bias.shape == (10,)
    assert layer.attention.self.num_attention_heads == 1
    assert [(row["heads"], row["neurons"]) for row in layer_structure(model)] == [(4, 64), (1, 10)]


def test_grouped_keys_and_values_go_with_their_queries():
    model = tiny_head("llama", "ForCausalLM", layers=1)
    keep_units(model, {"layers.0.heads": [1]})
    attention = model.model.layers[0].self_attn
    shapes = [tuple(module.weight.shape) for module in (attention.q_proj, attention.k_proj, attention.o_proj)]
    assert shapes == [(16, 32), (8, 32), (32, 16)]
    assert attention.num_key_value_groups == 2


def test_an_emptied_layer_has_its_bias_left_and_no_other_parameter():
    model = tiny_model("bert", layers=1)
    bias = model.bert.encoder.layer[0].attention.output.dense.bias.clone()
    keep_units(model, nothing(groups_of(model)))
    layer = model.bert.encoder.layer[0]
    assert isinstance(layer.attention.self.query, Zeros)
    assert isinstance(layer.attention.output.dense, Constant)
    assert torch.equal(layer.attention.output.dense.bias, bias)
    left = {name for name, _ in layer.named_parameters() if "LayerNorm" not in name}
    assert left == {"attention.output.dense.bias", "output.dense.bias"}
    assert [(row["heads"], row["neurons"]) for row in layer_structure(model)] == [(0, 0)]
    with pytest.raises(ModelError, match="bert has no heads or neurons that could be removed"):
        groups_of(model)


@pytest.mark.parametrize("family", ["bert", "t5", "gpt2"])
def test_emptied_layers_work_in_half_precision_and_training(family):
    model = tiny_head(family, HEADS[family][-1])
    keep_units(model, nothing(groups_of(model)))
    model.to(torch.bfloat16)
    assert outputs(model).dtype == torch.bfloat16
    model.train()(**tiny_inputs(model))[0].float().sum().backward()


def test_dropout_behind_an_emptied_layer_differs_from_token_to_token():
    constant = Constant(2, False, torch.float32, torch.nn.Parameter(torch.ones(2)))
    assert constant.train()(torch.zeros(3, 5, 8)).shape == (3, 5, 2)
    assert constant.eval()(torch.zeros(3, 5, 8)).shape == (1, 1, 2)


@pytest.mark.parametrize("family", TRANSFORMERS)
def test_ffns_narrowed_alike_stay_a_stock_model(family, tmp_path):
    model = tiny_head(family, HEADS[family][-1])
    kept = {group.name: range(8) for group in groups_of(model, ["neurons"])}
    expected = masked_outputs(model, kept)
    keep_units(model, kept)
    assert not hasattr(model.config, "quantization_config")
    model.save_pretrained(tmp_path)
    loaded = getattr(transformers, f"AutoModel{HEADS[family][-1]}").from_pretrained(tmp_path)
    assert torch.allclose(outputs(loaded), expected, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_heads_removed_alike_stay_a_stock_model_where_heads_have_their_own_width(family, tmp_path):
    model = tiny_head(family, "ForCausalLM")
    kept = {"layers.0.heads": [0], "layers.1.heads": [1]}
    expected = masked_outputs(model, kept)
    keep_units(model, kept)
    assert not hasattr(model.config, "quantization_config")
    assert (model.config.num_attention_heads, model.config.num_key_value_heads) == (2, 1)
    model.save_pretrained(tmp_path)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.allclose(outputs(loaded), expected, atol=1e-5)


@pytest.mark.parametrize("family", ENCODER_DECODERS)
def test_generates_with_a_cache_as_without_one(family):
    model = tiny_head(family, "ForSeq2SeqLM")
    keep_units(model, with_emptied(groups_of(model)))
    inputs = {key: value for key, value in tiny_inputs(model).items() if not key.startswith("decoder")}
    settings = {"max_new_tokens": 6, "do_sample": False}
    with_cache, without = (model.generate(**inputs, **settings, use_cache=cache) for cache in (True, False))
    assert torch.equal(with_cache, without)


@pytest.mark.parametrize("family", ["t5", "mpnet"])
def test_a_copy_computes_the_same_and_is_apart(family):
    model = tiny_head(family, HEADS[family][-1])
    keep_units(model, some(groups_of(model)))
    other = copy.deepcopy(model)
    assert torch.equal(outputs(other), outputs(model))
    keep_units(other, some(groups_of(other)))
    assert model.config.quantization_config.heads != other.config.quantization_config.heads


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_tied_embeddings_stay_tied(family):
    model = tiny_head(family, HEADS[family][-1], tie_word_embeddings=True)
    keep_units(model, some(groups_of(model)))
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.parametrize(
    ("kept", "problem"),
    [
        (
            {"encoder.layer.0.head": [0]},
            "there is no group 'encoder.layer.0.head'. Did you mean 'encoder.layer.0.heads'",
        ),
        ({"encoder.layer.0.heads": [4]}, r"cannot keep the units \[4\]. It has 4, counted from 0"),
        ({"encoder.layer.0.heads": [1, 0]}, "name some, once each, in order"),
        ({"encoder.layer.0.heads": [-1]}, r"cannot keep the units \[-1\]"),
    ],
)
def test_what_cannot_be_kept_is_refused_and_nothing_is_changed(kept, problem):
    model = tiny_model("bert")
    before = outputs(model)
    with pytest.raises(ModelError, match=problem):
        keep_units(model, {"encoder.layer.1.heads": [0], **kept})
    assert torch.equal(outputs(model), before)


def test_all_faults_are_named_at_once():
    with pytest.raises(ModelError) as error:
        keep_units(tiny_model("bert"), {"no": [0], "encoder.layer.0.heads": [9]})
    assert len(error.value.faults) == 2


def test_a_convolution_keeps_a_filter():
    model = tiny_head("resnet", "ForImageClassification")
    name = groups_of(model, ["filters"])[0].name
    with pytest.raises(ModelError, match="cannot lose all its filters"):
        keep_units(model, {name: []})


def test_an_architecture_without_a_row_is_refused():
    config = transformers.AutoConfig.for_model(
        "roformer", vocab_size=64, hidden_size=32, num_attention_heads=4, num_hidden_layers=1
    )
    with pytest.raises(ModelError, match="'roformer' has no row in the block table"):
        keep_units(transformers.AutoModel.from_config(config), {"encoder.layer.0.heads": [0]})
