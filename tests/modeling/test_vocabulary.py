"""Rows of a vocabulary: which weights have them, what stays the same when some leave, and numbers in the configs."""

import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM, GenerationConfig

from hfcompress.errors import ModelError
from hfcompress.modeling.groups import groups_of
from hfcompress.modeling.surgery import keep_units
from hfcompress.modeling.vocabulary import keep_rows, named_tokens, require_vocabulary, vocabulary_axes
from tests.tiny import HEADS, VISION, tiny_head, tiny_inputs

CASES = [(family, head) for family, heads in HEADS.items() if family not in VISION for head in heads]
each_head = pytest.mark.parametrize(("family", "head"), CASES)
WORDS = ("MaskedLM", "CausalLM", "Seq2SeqLM")


def renumbered(inputs, rows):
    """Inputs in the new numbers."""
    numbers = torch.full((64,), -1)
    numbers[rows] = torch.arange(len(rows))
    return {name: numbers[value] if name.endswith("input_ids") else value for name, value in inputs.items()}


def kept(model, inputs):
    """Rows in mixed order: padding stays in its place (MPNet's is 1), the other special tokens do not."""
    tokens = {int(token) for name, value in inputs.items() if name.endswith("input_ids") for token in value.flatten()}
    return [0, 1, *sorted((tokens | named_tokens(model) | {60}) - {0, 1}, reverse=True)]


@each_head
def test_it_computes_the_same_from_the_tokens_that_stay(family, head, tmp_path):
    labels = 3 if head == "ForSequenceClassification" else 2  # two are not saved in BART's config by transformers 5
    model = tiny_head(family, head, num_labels=labels)
    inputs = tiny_inputs(model)
    rows = kept(model, inputs)
    with torch.no_grad():
        before = model(**inputs)
        assert keep_rows(model, rows) is model
        after = model(**renumbered(inputs, rows))
    name = "last_hidden_state" if "last_hidden_state" in before else next(n for n in before if n.endswith("logits"))
    wanted = before[name][..., rows] if head.endswith(WORDS) else before[name]
    assert torch.equal(after[name], wanted)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path).eval()
    assert loaded.config.vocab_size == len(rows)
    with torch.no_grad():
        assert torch.equal(loaded(**renumbered(inputs, rows))[name], after[name])


@each_head
def test_the_axes_are_the_weights_with_64_rows(family, head):
    model = tiny_head(family, head)
    state = model.state_dict()
    found = vocabulary_axes(model)
    assert found
    assert all(state[name].shape[axis] == 64 for name, axis in found.items())
    words = model.get_input_embeddings().weight
    assert any(value.data_ptr() == words.data_ptr() for name, value in state.items() if name in found)


def test_mobilebert_has_a_weight_with_a_column_for_each_token():
    axes = vocabulary_axes(tiny_head("mobilebert", "ForMaskedLM"))
    assert axes["cls.predictions.dense.weight"] == 1
    assert axes["cls.predictions.bias"] == 0


def test_other_tables_as_long_as_the_vocabulary_stay():
    model = tiny_head("bert", "", max_position_embeddings=64, intermediate_size=64)
    keep_rows(model, list(range(20)))
    assert model.embeddings.word_embeddings.weight.shape == (20, 32)
    assert model.embeddings.position_embeddings.weight.shape == (64, 32)
    assert model.encoder.layer[0].intermediate.dense.out_features == 64


@pytest.mark.parametrize(
    ("family", "head"), [("bert", "ForMaskedLM"), ("gpt2", "ForCausalLM"), ("bart", "ForSeq2SeqLM")]
)
def test_tied_heads_stay_tied_and_learn_together(family, head):
    model = keep_rows(tiny_head(family, head), list(range(20)))
    words, output = model.get_input_embeddings(), model.get_output_embeddings()
    assert output.weight is words.weight
    assert (output.out_features, words.num_embeddings) == (20, 20)
    assert output.weight.shape[0] == 20
    output.weight.data[7] = 1.0
    assert words.weight[7].eq(1).all()


def test_untied_heads_stay_apart():
    model = keep_rows(tiny_head("gpt2", "ForCausalLM", tie_word_embeddings=False), list(range(20)))
    assert model.lm_head.weight is not model.transformer.wte.weight
    assert model.lm_head.weight.shape == model.transformer.wte.weight.shape == (20, 32)


def test_the_padding_row_of_a_table_moves_along():
    model = keep_rows(tiny_head("bert", ""), [5, 6, 0, 7])
    assert model.config.pad_token_id == model.embeddings.word_embeddings.padding_idx == 2
    assert not model.embeddings.word_embeddings.weight[2].any()


def test_numbers_of_tokens_in_configs_move_along():
    model = tiny_head("bart", "ForSeq2SeqLM")
    model.generation_config = GenerationConfig(
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=[3, 9],
        decoder_start_token_id=3,
        forced_eos_token_id=3,
        forced_bos_token_id=12,
        suppress_tokens=[9, 40],
        begin_suppress_tokens=[40],
        bad_words_ids=[[9, 12], [9, 40], [41]],
        sequence_bias=[[[9], -1.0], [[40, 9], 2.0]],
    )
    model.config.unheard_of_token_id = 50_256
    assert named_tokens(model) == {0, 2, 3, 9, 12}
    keep_rows(model, [0, 12, 9, 3, 2])
    found = model.generation_config
    assert (found.bos_token_id, found.eos_token_id, found.pad_token_id) == (4, [3, 2], 0)
    assert (found.decoder_start_token_id, found.forced_eos_token_id, found.forced_bos_token_id) == (3, 3, 1)
    assert found.suppress_tokens == [2]
    assert found.begin_suppress_tokens is None
    assert found.bad_words_ids == [[2, 1]]
    assert found.sequence_bias == [[[2], -1.0]]
    assert model.config.bos_token_id == 4
    assert model.config.unheard_of_token_id == 50_256  # it never had a row
    assert {part.config.vocab_size for part in model.modules() if hasattr(part, "config")} == {5}


def test_what_is_generated_is_the_same():
    model = tiny_head("bart", "ForSeq2SeqLM")
    inputs = tiny_inputs(model)
    options = {"max_new_tokens": 6, "do_sample": False}
    before = model.generate(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], **options)
    rows = list(dict.fromkeys([*kept(model, inputs), *before.flatten().tolist()]))
    new = renumbered(inputs, rows)
    keep_rows(model, rows)
    after = model.generate(input_ids=new["input_ids"], attention_mask=new["attention_mask"], **options)
    assert [[rows[token] for token in row] for row in after] == before.tolist()


def test_positions_that_count_from_the_padding_token_do_not_move():
    model = tiny_head("roberta", "", pad_token_id=1)
    with pytest.raises(
        ModelError, match="counts positions from the number of its padding token, 1, which would change"
    ):
        keep_rows(model, [5, 6, 1, 7, *named_tokens(model) - {1}])
    assert model.config.vocab_size == 64


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], r"cannot keep the rows given: its 64 rows are counted from 0"),
        ([0, 64], r"cannot keep the rows \[64\]"),
        ([0, 1, 1], r"cannot keep the rows given"),
        ([1, 2], r"configs name the tokens \[0\]"),
    ],
)
def test_rows_that_cannot_be_kept(rows, message):
    model = tiny_head("bert", "")
    with pytest.raises(ModelError, match=message):
        keep_rows(model, rows)
    assert model.config.vocab_size == 64


@pytest.mark.parametrize("family", VISION)
def test_a_model_of_images_has_no_vocabulary(family):
    with pytest.raises(ModelError, match="reads no words, so it has no vocabulary"):
        require_vocabulary(tiny_head(family, "").config)


def test_it_trains_after_that():
    model = keep_rows(tiny_head("bert", "ForMaskedLM"), list(range(20))).train()
    ids = torch.tensor([[2, 7, 3]])
    model(input_ids=ids, labels=ids).loss.backward()
    assert model.get_input_embeddings().weight.grad.shape == (20, 32)


def test_an_auto_model_reads_the_trimmed_folder(tmp_path):
    keep_rows(tiny_head("t5", "ForSeq2SeqLM"), [0, 3, 9]).save_pretrained(tmp_path)
    assert AutoModel.from_pretrained(tmp_path).get_input_embeddings().weight.shape == (3, 32)


def test_layers_of_unequal_width_stay_as_they_are(tmp_path):
    model = tiny_head("bert", "ForMaskedLM")
    inputs, rows = {"input_ids": torch.tensor([[2, 7, 9, 3]])}, list(range(20))
    keep_units(model, {groups_of(model, ("neurons",))[0].name: [0, 3, 5]})
    before = model(**inputs).logits[..., rows]
    keep_rows(model, rows)
    assert torch.equal(model(**inputs).logits, before)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(loaded(**inputs).logits, before)
