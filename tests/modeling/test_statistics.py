"""Means and second moments of what layers read and give: exact, without padding, the same however rows are batched."""

import pytest
import torch

from hfcompress.errors import DataError, ModelError
from hfcompress.modeling.statistics import Moments, counted, input_moments, output_moments, token_masks, tokens_read
from tests.tiny import tiny_head, tiny_inputs, tiny_model

FIRST = "bert.encoder.layer.0.attention.self.query"


def test_moments_by_hand():
    moments = Moments()
    moments.add(torch.tensor([[1.0, 2.0], [3.0, 0.0]]))
    moments.add(torch.tensor([[2.0, 4.0]]))
    assert moments.count == 3
    assert moments.mean.tolist() == [2.0, 2.0]
    torch.testing.assert_close(moments.second_moment * 3, torch.tensor([[14.0, 10.0], [10.0, 20.0]]).double())
    torch.testing.assert_close(moments.covariance() * 3, torch.tensor([[2.0, -2.0], [-2.0, 8.0]]).double())
    torch.testing.assert_close(moments.squares * 3, torch.tensor([14.0, 20.0]).double())
    assert moments.mean.dtype == torch.float64


def test_squares_alone_are_those_of_the_products():
    values = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    whole, squares = Moments(), Moments(products=False)
    whole.add(values)
    squares.add(values)
    torch.testing.assert_close(whole.squares, squares.squares)
    assert squares.second_moment.shape == (5,)


def test_no_vectors_have_no_mean():
    moments = Moments("a.layer")
    moments.add(torch.empty(0, 4))
    with pytest.raises(DataError, match=r"no token .* 'a\.layer'"):
        _ = moments.mean


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_number_that_is_none_names_the_layer(bad):
    model = tiny_model()
    with torch.no_grad():
        model.bert.embeddings.LayerNorm.bias[3] = bad
    with pytest.raises(ModelError, match=FIRST.replace(".", r"\.")), input_moments(model, [FIRST]):
        model(**tiny_inputs(model))


def test_padding_does_not_count():
    model = tiny_model()
    batch = tiny_inputs(model)
    lengths = batch["attention_mask"].sum(dim=1).tolist()
    with torch.no_grad(), input_moments(model, [FIRST]) as moments:
        model(**batch)
    with torch.no_grad():
        hidden = model.bert.embeddings(batch["input_ids"])
    tokens = torch.cat([row[:length] for row, length in zip(hidden, lengths, strict=True)]).double()
    assert moments[FIRST].count == sum(lengths)
    torch.testing.assert_close(moments[FIRST].mean, tokens.mean(0))
    torch.testing.assert_close(moments[FIRST].covariance(), torch.cov(tokens.T, correction=0))


def test_batches_of_one_give_what_one_batch_gives():
    model = tiny_model(layers=1)
    batch = tiny_inputs(model)
    name = "bert.encoder.layer.0.output.dense"
    with torch.no_grad(), input_moments(model, [name]) as together:
        model(**batch)
    with torch.no_grad(), input_moments(model, [name]) as alone:
        for row, length in enumerate(batch["attention_mask"].sum(dim=1).tolist()):
            model(**{key: values[row : row + 1, :length] for key, values in batch.items()})
    assert alone[name].count == together[name].count
    torch.testing.assert_close(alone[name].second_moment, together[name].second_moment, rtol=1e-5, atol=1e-6)


def test_a_text_of_nothing_but_padding_adds_nothing():
    model = tiny_model(layers=1)
    batch = tiny_inputs(model)
    empty = {key: torch.cat([values, torch.zeros_like(values[:1])]) for key, values in batch.items()}
    with torch.no_grad(), input_moments(model, [FIRST]) as without:
        model(**batch)
    with torch.no_grad(), input_moments(model, [FIRST]) as with_it:
        model(**empty)
    assert with_it[FIRST].count == without[FIRST].count
    torch.testing.assert_close(with_it[FIRST].second_moment, without[FIRST].second_moment)


def test_outputs_are_the_layer_applied_to_the_inputs():
    model = tiny_model(layers=1)
    layer = model.get_submodule(FIRST)
    with torch.no_grad(), input_moments(model, [FIRST]) as read, output_moments(model, [FIRST]) as given:
        model(**tiny_inputs(model))
    weight = layer.weight.detach().double()
    expected = weight @ read[FIRST].mean + layer.bias.detach().double()
    torch.testing.assert_close(given[FIRST].mean, expected, rtol=1e-5, atol=1e-6)


def test_one_can_say_which_tokens_count():
    model = tiny_model(layers=1)
    batch = tiny_inputs(model)
    mask = torch.zeros_like(batch["attention_mask"])
    mask[0, 2] = 1
    with torch.no_grad(), input_moments(model, [FIRST], mask=mask, products=False) as moments:
        model(**batch)
        hidden = model.bert.embeddings(batch["input_ids"])[0, 2]
    assert moments[FIRST].count == 1
    torch.testing.assert_close(moments[FIRST].mean, hidden.double())


def test_nothing_listens_afterwards():
    model = tiny_model(layers=1)
    with input_moments(model, [FIRST]):
        pass
    assert not model._forward_pre_hooks
    assert not model.get_submodule(FIRST)._forward_hooks


def test_channels_may_stand_second():
    values = torch.arange(24.0).view(2, 3, 4)  # two texts of four tokens with three channels
    mask = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0]])
    assert counted(values, mask, channels_first=True).tolist() == [[0, 4, 8], [1, 5, 9], [12, 16, 20]]
    assert counted(torch.zeros(2, 3, 5, 5), None, channels_first=True).shape == (50, 3)


@pytest.mark.parametrize("family", ["bart", "t5"])
def test_whose_tokens_the_parts_of_an_encoder_decoder_read(family):
    model = tiny_head(family, "ForSeq2SeqLM")
    names = {
        "bart": [
            ("model.encoder.layers.0.fc1", "encoder"),
            ("model.decoder.layers.1.self_attn.k_proj", "decoder"),
            ("model.decoder.layers.1.encoder_attn.k_proj", "encoder"),
            ("model.decoder.layers.1.encoder_attn.q_proj", "decoder"),
        ],
        "t5": [
            ("encoder.block.0.layer.1.DenseReluDense.wo", "encoder"),
            ("decoder.block.0.layer.1.EncDecAttention.v", "encoder"),
            ("decoder.block.1.layer.1.EncDecAttention.o", "decoder"),
        ],
    }[family]
    batch = tiny_inputs(model)
    batch["decoder_input_ids"][0, 3:] = batch["decoder_input_ids"][2, 2:] = 0
    tokens = {"encoder": int(batch["attention_mask"].sum()), "decoder": 3 + 5 + 2}
    with torch.no_grad(), input_moments(model, [name for name, _ in names]) as moments:
        model(**batch)
    for name, side in names:
        assert tokens_read(model, name) == side
        assert moments[name].count == tokens[side]


def test_a_decoders_own_mask_goes_first():
    model = tiny_head("bart", "ForSeq2SeqLM")
    batch = tiny_inputs(model)
    own = torch.ones_like(batch["decoder_input_ids"])
    assert token_masks(model, {**batch, "decoder_attention_mask": own})["decoder"] is own


def test_a_decoder_that_is_given_nothing_reads_the_encoders_tokens_one_place_later():
    model = tiny_head("bart", "ForSequenceClassification")
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]])
    assert token_masks(model, {"attention_mask": mask})["decoder"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]


@pytest.mark.parametrize("family", ["gpt2", "squeezebert", "albert", "deberta-v2", "modernbert", "distilbert"])
def test_every_family_counts_its_tokens(family):
    model = tiny_head(family, "ForSequenceClassification")
    names = {
        "gpt2": "transformer.h.1.mlp.c_fc",
        "squeezebert": "transformer.encoder.layers.1.intermediate.conv1d",
        "albert": "albert.encoder.albert_layer_groups.0.albert_layers.0.ffn",
        "deberta-v2": "deberta.encoder.layer.1.intermediate.dense",
        "modernbert": "model.layers.1.mlp.Wi",
        "distilbert": "distilbert.transformer.layer.1.ffn.lin1",
    }
    batch = tiny_inputs(model)
    with torch.no_grad(), input_moments(model, [names[family]]) as moments:
        model(**batch)
    calls = model.config.num_hidden_layers if family == "albert" else 1
    assert moments[names[family]].count == calls * int(batch["attention_mask"].sum())
    assert moments[names[family]].covariance().shape == (32, 32)
