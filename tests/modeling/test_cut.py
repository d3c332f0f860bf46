"""Students cut out of their teacher: right weights, right outputs, and a stock checkpoint; for every family."""

import copy

import pytest
import torch
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSequenceClassification

from hfcompress.errors import ModelError
from hfcompress.modeling.cut import cut, cut_config
from hfcompress.modeling.families import FAMILIES as TABLE
from hfcompress.modeling.families import blocks_of, layers_of, layers_prefix
from tests.tiny import FAMILIES, tiny_config, tiny_model

every_family = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture
def batch():
    ids = torch.randint(5, 64, (3, 9))
    mask = torch.ones_like(ids)
    mask[1, 6:] = mask[2, 2:] = 0
    return {"input_ids": ids.masked_fill(mask == 0, 0), "attention_mask": mask}


def outputs(model, batch):
    with torch.no_grad():
        return model(**batch).logits


def with_layers_taken_out(model, keep):
    """The same cut made another way: layers are taken out of a copy's list."""
    model = copy.deepcopy(model)
    place, _, name = blocks_of(model.config.model_type).layers.rpartition(".")
    setattr(model.base_model.get_submodule(place), name, torch.nn.ModuleList(layers_of(model)[i] for i in keep))
    setattr(model.config, blocks_of(model.config.model_type).depth, len(keep))
    return model


@every_family
@pytest.mark.parametrize("keep", [[0, 3], [2], [1, 2, 3]])
def test_computes_what_the_kept_layers_compute(family, keep, batch):
    model = tiny_model(family, layers=4)
    small = cut(model, keep)
    assert len(layers_of(small)) == small.config.num_hidden_layers == len(keep)
    assert torch.equal(outputs(small, batch), outputs(with_layers_taken_out(model, keep), batch))


@every_family
def test_cutting_to_all_layers_changes_nothing(family, batch):
    model = tiny_model(family, layers=3)
    assert torch.equal(outputs(cut(model, [0, 1, 2]), batch), outputs(model, batch))


@every_family
def test_copies_the_weights_of_kept_layers_and_of_all_that_is_no_layer(family):
    model = tiny_model(family, layers=4)
    small = cut(model, [1, 3])
    for new, old in enumerate([1, 3]):
        kept, source = (layers_of(m)[i].state_dict() for m, i in ((small, new), (model, old)))
        assert kept.keys() == source.keys()
        assert all(torch.equal(kept[name], source[name]) for name in kept)
    rest, source = (
        {name: tensor for name, tensor in m.state_dict().items() if not name.startswith(layers_prefix(m))}
        for m in (small, model)
    )
    assert rest.keys() == source.keys()
    assert all(torch.equal(rest[name], source[name]) for name in rest)


@every_family
def test_leaves_the_original_as_it_was_and_shares_nothing_with_it(family):
    model = tiny_model(family, layers=3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    small = cut(model, [0, 2])
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.add_(1)
    assert model.config.num_hidden_layers == 3
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@every_family
def test_saved_it_is_a_stock_checkpoint_with_the_same_outputs(family, batch, tmp_path):
    small = cut(tiny_model(family, layers=4, id2label={0: "bad", 1: "good"}), [1, 3])
    small.save_pretrained(tmp_path)
    loaded, report = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert type(loaded) is type(small)
    assert (loaded.config.num_hidden_layers, loaded.config.id2label) == (2, {0: "bad", 1: "good"})
    assert torch.equal(outputs(loaded, batch), outputs(small, batch))


@every_family
def test_tied_weights_stay_tied(family, batch, tmp_path):
    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_config(tiny_config(family, layers=3, tie_word_embeddings=True)).eval()
    small = cut(model, [0, 2])
    assert small.get_output_embeddings().weight is small.get_input_embeddings().weight
    assert torch.equal(outputs(small, batch), outputs(with_layers_taken_out(model, [0, 2]), batch))
    small.save_pretrained(tmp_path)
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert torch.equal(outputs(loaded, batch), outputs(small, batch))


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


@pytest.mark.parametrize("layers", [[4], [0, 0], [-1]])
def test_layers_that_cannot_be_filled_are_refused(layers):
    with pytest.raises(ModelError, match="left weights without a place"):
        cut(tiny_model("bert", layers=4), layers)


@pytest.mark.parametrize(
    "config",
    [
        AutoConfig.for_model("gpt2", vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=16, pad_token_id=0),
        AutoConfig.for_model("albert", vocab_size=64, embedding_size=16, hidden_size=32, num_attention_heads=4),
    ],
    ids=["gpt2", "albert"],
)
def test_an_architecture_without_a_row_is_refused_and_the_row_to_add_is_shown(config):
    with pytest.raises(ModelError) as error:
        cut(AutoModelForSequenceClassification.from_config(config), [0])
    message = str(error.value)
    assert f"the architecture '{config.model_type}' has no row in the block table" in message
    assert "Known: bert, distilbert, electra" in message
    assert "from hfcompress.modeling.families import FAMILIES, Blocks\n" in message
    assert f"FAMILIES['{config.model_type}'] = Blocks(layers=..., embeddings=..., depth=..., query=..." in message


def test_a_new_row_is_all_that_a_new_architecture_takes(monkeypatch, batch):
    monkeypatch.setitem(TABLE, "camembert", TABLE["roberta"])
    model = tiny_model("camembert", layers=3)
    assert torch.equal(outputs(cut(model, [0, 2]), batch), outputs(with_layers_taken_out(model, [0, 2]), batch))
