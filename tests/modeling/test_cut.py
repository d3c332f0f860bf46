"""Students cut out of their teacher: right weights and outputs, and a stock checkpoint; for every family and head."""

import copy

import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModelForSequenceClassification

from hfcompress.errors import ModelError
from hfcompress.modeling.cut import cut, cut_config
from hfcompress.modeling.families import FAMILIES as TABLE
from hfcompress.modeling.families import blocks_of, layers_of, stacks_of
from tests.tiny import CONVOLUTIONAL, ENCODER_DECODERS, HEADS, tiny_config, tiny_head, tiny_inputs, tiny_model

every_family = pytest.mark.parametrize("family", sorted(set(HEADS) - set(CONVOLUTIONAL)))
every_head = pytest.mark.parametrize(
    ("family", "head"), [(f, head) for f in HEADS for head in HEADS[f] if f not in CONVOLUTIONAL]
)
NAMED = {"id2label": {0: "bad", 1: "good"}}


def last_head(family, **options):
    return tiny_head(family, HEADS[family][-1], **options)


def outputs(model):
    with torch.no_grad():
        return model(**tiny_inputs(model))[0]


def with_layers_taken_out(model, keep):
    """The same cut made another way: layers are taken out of a copy's lists."""
    model = copy.deepcopy(model)
    for stack, layers in stacks_of(model):
        place, _, name = stack.layers.rpartition(".")
        if not stack.shared:
            kept = torch.nn.ModuleList(layers[i] for i in keep)
            setattr(model.base_model.get_submodule(place), name, kept)
        setattr(model.config, stack.depth, len(keep))
    model.config.use_cache = False  # layers keep their old places in a cache
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = [model.config.layer_types[i] for i in keep]
    return model


@every_family
@pytest.mark.parametrize("keep", [[0, 3], [0, 1, 3], [0]])
def test_computes_what_the_kept_layers_compute(family, keep):
    model = last_head(family, layers=4)
    assert torch.allclose(outputs(cut(model, keep)), outputs(with_layers_taken_out(model, keep)), atol=1e-6)


@pytest.mark.parametrize("keep", [[2], [1, 2, 3], [1, 3]])
@pytest.mark.parametrize("family", sorted(set(HEADS) - {*CONVOLUTIONAL, "modernbert", "t5", "mt5"}))
def test_another_layer_can_stand_first(family, keep):
    model = last_head(family, layers=4)
    small = cut(model, keep)
    assert small.config.num_hidden_layers == len(keep)
    assert torch.allclose(outputs(small), outputs(with_layers_taken_out(model, keep)), atol=1e-6)


@every_family
def test_cutting_to_all_layers_changes_nothing(family):
    model = last_head(family, layers=3)
    assert torch.equal(outputs(cut(model, [0, 1, 2])), outputs(model))


@every_head
def test_saved_it_is_a_stock_checkpoint_with_the_same_outputs(family, head, tmp_path):
    small = cut(tiny_head(family, head, layers=4, **NAMED), [0, 3])
    small.save_pretrained(tmp_path)
    auto_class = getattr(transformers, f"AutoModel{head}")
    loaded, report = auto_class.from_pretrained(tmp_path, output_loading_info=True)
    assert not {kind: names for kind, names in report.items() if names}
    assert type(loaded) is type(small)
    assert (loaded.config.num_hidden_layers, loaded.config.id2label) == (2, NAMED["id2label"])
    assert torch.allclose(outputs(loaded), outputs(small), atol=1e-6)
    assert sum(p.numel() for p in loaded.parameters()) == sum(p.numel() for p in small.parameters())


@every_head
def test_copies_the_weights_of_kept_layers_and_of_all_that_is_no_layer(family, head):
    model = tiny_head(family, head, layers=4)
    small = cut(model, [0, 3])
    for (stack, ours), (_, theirs) in zip(stacks_of(small), stacks_of(model), strict=True):
        assert len(ours) == (1 if stack.shared else 2)
        for new, old in [(0, 0)] if stack.shared else [(0, 0), (1, 3)]:
            kept, source = ours[new].state_dict(), theirs[old].state_dict()
            assert kept.keys() == source.keys()
            assert all(torch.equal(kept[name], source[name]) for name in kept)
    rest, source = (outside_layers(m) for m in (small, model))
    assert rest.keys() == source.keys()
    assert all(torch.equal(rest[name], source[name]) for name in rest)


def outside_layers(model):
    lists = {id(layers) for _, layers in stacks_of(model)}
    places = tuple(f"{name}." for name, module in model.named_modules() if id(module) in lists)
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(places)}


@every_family
def test_leaves_the_original_as_it_was_and_shares_nothing_with_it(family):
    model = last_head(family, layers=3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    config = model.config.to_dict()
    small = cut(model, [0, 2])
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.add_(1)
    assert model.config.to_dict() == config
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("family", "head"), [(f, head) for f, heads in HEADS.items() for head in heads if head.endswith("LM")]
)
def test_tied_weights_stay_tied(family, head, tmp_path):
    model = tiny_head(family, head, layers=3, tie_word_embeddings=True)
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    small = cut(model, [0, 2])
    assert tied
    assert small.get_output_embeddings().weight is small.get_input_embeddings().weight
    small.save_pretrained(tmp_path)
    loaded = getattr(transformers, f"AutoModel{head}").from_pretrained(tmp_path)
    assert loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight
    assert torch.allclose(outputs(loaded), outputs(small), atol=1e-6)


@pytest.mark.parametrize("family", ENCODER_DECODERS)
def test_encoder_and_decoder_are_cut_apart(family):
    model = tiny_head(family, "ForSeq2SeqLM", layers=4)
    small = cut(model, [0, 2, 3], [3])
    assert [len(layers) for _, layers in stacks_of(small)] == [3, 1]
    query = f"3.{blocks_of(family).decoder.query}.weight"
    (_, theirs), (_, ours) = stacks_of(model)[1], stacks_of(small)[1]
    assert torch.equal(ours.get_parameter(query.replace("3.", "0.", 1)), theirs.get_parameter(query))
    assert torch.isfinite(outputs(small)).all()


@pytest.mark.parametrize("family", ["t5", "mt5"])
def test_the_relative_positions_of_the_first_layer_are_kept_without_it(family):
    model = tiny_head(family, "ForSeq2SeqLM", layers=4)
    small = cut(model, [1, 3])
    for (stack, ours), (_, theirs) in zip(stacks_of(small), stacks_of(model), strict=True):
        bias = f"0.{stack.first_layer[0]}.weight"
        assert torch.equal(ours.get_parameter(bias), theirs.get_parameter(bias))
        assert torch.equal(
            ours.get_parameter(f"0.{stack.query}.weight"), theirs.get_parameter(f"1.{stack.query}.weight")
        )
    oracle = copy.deepcopy(model)
    for _, layers in stacks_of(oracle):
        for part, source in ((layers[0], layers[1]), (layers[1], layers[3])):
            part.load_state_dict(source.state_dict(), strict=False)
        del layers[2:]
    oracle.config.use_cache = False
    assert torch.allclose(outputs(small), outputs(oracle), atol=1e-6)


def test_generation_settings_are_kept():
    model = tiny_head("gpt2", "ForCausalLM")
    model.generation_config.max_new_tokens = 7
    assert cut(model, [1]).generation_config.max_new_tokens == 7


@pytest.mark.parametrize("training", [True, False])
def test_keeps_mode_and_precision(training):
    model = tiny_model("bert", layers=2).to(torch.bfloat16).train(training)
    small = cut(model, [1])
    assert (small.training, small.dtype) == (training, torch.bfloat16)


def test_a_config_is_copied_with_its_new_depth_only():
    config = tiny_config("distilbert", layers=4, dropout=0.25)
    small = cut_config(config, [1, 3])
    changed = {key for key, value in small.to_dict().items() if value != config.to_dict()[key]}
    assert (changed, small.n_layers, config.n_layers) == ({"n_layers"}, 2, 4)


@pytest.mark.parametrize("layers", [[4], [0, 0], [-1], [2, 1], []])
def test_layers_that_do_not_exist_are_refused(layers):
    with pytest.raises(ModelError, match="cannot be cut to the layers .* Its 4 layers are counted from 0 to 3"):
        cut(tiny_model("bert", layers=4), layers)


def test_weights_without_a_place_are_refused():
    model = tiny_model("bert", layers=2)
    model.bert.encoder.register_parameter("more", torch.nn.Parameter(torch.zeros(1)))
    with pytest.raises(ModelError, match="left weights without a place"):
        cut(model, [0])


@pytest.mark.parametrize("family", CONVOLUTIONAL)
def test_convolutional_networks_are_refused_and_presets_named(family):
    with pytest.raises(ModelError) as error:
        cut(tiny_head(family, "ForImageClassification"), [0])
    assert f"{family} cannot be cut: its stages differ in width" in str(error.value)
    assert "Choose a smaller student: resnet-18, mobilenet-v2 or mobilenet-v1." in str(error.value)


@pytest.mark.parametrize(
    "config",
    [
        AutoConfig.for_model("roformer", vocab_size=64, hidden_size=32, num_attention_heads=4, num_hidden_layers=1),
        AutoConfig.for_model("canine", hidden_size=32, num_attention_heads=4, num_hidden_layers=1),
    ],
    ids=["roformer", "canine"],
)
def test_an_architecture_without_a_row_is_refused_and_the_row_to_add_is_shown(config):
    with pytest.raises(ModelError) as error:
        cut(AutoModelForSequenceClassification.from_config(config), [0])
    message = str(error.value)
    assert f"the architecture '{config.model_type}' has no row in the block table" in message
    assert "Known: albert, bart, bert, deberta-v2" in message
    assert "from hfcompress.modeling.families import FAMILIES, Blocks\n" in message
    assert f"FAMILIES['{config.model_type}'] = Blocks(layers=..., embeddings=..., depth=..., query=..." in message


def test_a_new_row_is_all_that_a_new_architecture_takes(monkeypatch):
    monkeypatch.setitem(TABLE, "camembert", TABLE["roberta"])
    model = tiny_model("camembert", layers=3)
    assert len(layers_of(cut(model, [0, 2]))) == 2
    assert torch.equal(outputs(cut(model, [0, 2])), outputs(with_layers_taken_out(model, [0, 2])))
