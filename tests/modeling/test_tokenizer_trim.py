"""Tokenizers rebuilt with fewer pieces: the same pieces for the texts that decide, the same roles, saved and loaded."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import processors
from transformers import AutoTokenizer

from hfcompress.errors import ModelError
from hfcompress.modeling.subwords import Subwords
from hfcompress.modeling.tokenizer_trim import role_ids, state_of, trim_tokenizer
from tests.trained_tokenizers import CLASSES, KINDS, TEXTS, as_class, trained

each_kind = pytest.mark.parametrize("kind", KINDS)
each_class = pytest.mark.parametrize("name", CLASSES)


def pieces(tokenizer, text, **options):
    return tokenizer.convert_ids_to_tokens(tokenizer(text, **options)["input_ids"])


def used(tokenizer, texts):
    """The tokens of texts with all that these need."""
    subwords = Subwords.of(state_of(tokenizer)["model"])
    found = {token for text in texts for token in tokenizer(text, truncation=False)["input_ids"]}
    names = {number: piece for piece, number in subwords.ids.items()}
    closed = {subwords.ids[part] for token in found if token in names for part in subwords.needed(names[token])}
    return found | closed | {subwords.ids[piece] for piece in subwords.always}


def small(tokenizer, texts=TEXTS[:3]):
    return trim_tokenizer(tokenizer, used(tokenizer, texts))


@each_kind
def test_texts_keep_their_pieces_and_the_old_numbers_are_known(kind):
    old = trained(kind)
    new, order = small(old)
    assert len(new) == len(order) < len(old)
    for text in TEXTS[:3]:
        assert pieces(new, text) == pieces(old, text)
        assert [order[token] for token in new(text)["input_ids"]] == old(text)["input_ids"]


@each_kind
def test_it_keeps_its_roles_and_what_was_added(kind):
    old = trained(kind)
    new, order = small(old)
    assert new.special_tokens_map == old.special_tokens_map
    assert new.all_special_tokens == old.all_special_tokens
    assert [order[number] for number in new.all_special_ids] == old.all_special_ids
    assert set(new.get_added_vocab()) == set(old.get_added_vocab())
    assert new.model_max_length == old.model_max_length
    assert new.model_input_names == old.model_input_names
    text = f"the <tag> noise<special> {old.mask_token or ''}"
    if kind != "wordlevel":
        new, _ = small(old, [text])
        assert pieces(new, text) == pieces(old, text)
        assert new.decode(new(text)["input_ids"]) == old.decode(old(text)["input_ids"])


@each_kind
def test_pairs_padding_and_truncation_are_as_before(kind):
    old = trained(kind)
    new, order = small(old)
    pairs = [TEXTS[0], TEXTS[1]], [TEXTS[2], TEXTS[0]]
    options = {"truncation": True, "max_length": 12, "padding": True} if old.pad_token else {}
    one, two = old(*pairs, **options), new(*pairs, **options)
    assert [[order[token] for token in row] for row in two["input_ids"]] == one["input_ids"]
    assert two["attention_mask"] == one["attention_mask"]


@each_kind
def test_special_tokens_keep_low_numbers(kind):
    old = trained(kind)
    new, order = small(old)
    low = [number for number in old.all_special_ids if number < 5]
    assert low
    assert [order[number] for number in low] == low


@each_class
def test_every_class_is_saved_and_loaded_again(name, tmp_path):
    old = as_class(name)
    new, order = small(old)
    new.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert type(loaded) is type(new) is type(old)
    assert loaded.get_vocab() == new.get_vocab()
    for text in TEXTS[:3]:
        assert pieces(loaded, text) == pieces(new, text) == pieces(old, text)
        assert [order[token] for token in loaded(text)["input_ids"]] == old(text)["input_ids"]
        assert loaded.decode(loaded(text)["input_ids"]) == old.decode(old(text)["input_ids"])
    assert not list(tmp_path.glob("*.model"))


@each_kind
def test_the_given_tokenizer_stays_as_it_is(kind):
    old = trained(kind)
    before = old.backend_tokenizer.to_str()
    small(old)
    assert old.backend_tokenizer.to_str() == before


@each_kind
def test_all_tokens_kept_changes_nothing(kind):
    old = trained(kind)
    new, order = trim_tokenizer(old, old.get_vocab().values())
    assert order == sorted(old.get_vocab().values())
    assert new.get_vocab() == old.get_vocab()
    assert json.loads(new.backend_tokenizer.to_str())["model"] == state_of(old)["model"]


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_processor_of_every_kind_gets_the_new_numbers(wrapped):
    old, _ = small(trained("wordpiece"), TEXTS)  # a copy that may be changed
    cls, sep = old.cls_token_id, old.sep_token_id
    numbers = [("[CLS]", cls), ("[SEP]", sep)]
    processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A $B", special_tokens=numbers)
    if wrapped:
        processor = processors.Sequence([processors.ByteLevel(), processors.BertProcessing(*reversed(numbers))])
    old.backend_tokenizer.post_processor = processor
    assert {cls, sep} <= role_ids(old, state_of(old))
    new, _ = small(old)
    assert pieces(new, TEXTS[0]) == pieces(old, TEXTS[0])
    assert state_of(old)["post_processor"]["type"] == ("Sequence" if wrapped else "TemplateProcessing")


def test_padding_in_the_file_gets_the_new_number():
    old = as_class("GPT2TokenizerFast")
    old.pad_token = "<special>"  # noqa: S105
    old(TEXTS[:2], padding=True)
    assert state_of(old)["padding"]["pad_id"] == old.convert_tokens_to_ids("<special>") > 400
    new, _ = small(old)
    assert new.pad_token_id == new.convert_tokens_to_ids("<special>") < 400
    assert new([TEXTS[0], "the"], padding=True)["input_ids"][1][-1] == new.pad_token_id


def test_merges_whose_parts_all_stay_stay():
    old = trained("byte-level")
    new, _ = small(old)
    known = set(new.get_vocab())
    merges = {tuple(pair) for pair in state_of(new)["model"]["merges"]}
    expected = {(a, b) for a, b in state_of(old)["model"]["merges"] if {a, b, a + b} <= known}
    assert merges == expected
    assert 0 < len(merges) < len(state_of(old)["model"]["merges"])


WORDS = st.text(st.sampled_from("aehlnorstuw -,'é漢🙂"), max_size=24)


@pytest.mark.parametrize("kind", ["wordpiece", "byte-level", "sentencepiece-bpe", "xlm-roberta"])
@settings(max_examples=25, deadline=None)
@given(texts=st.lists(WORDS, min_size=1, max_size=4))
def test_any_texts_keep_their_pieces(kind, texts):
    old = trained(kind)
    subwords = Subwords.of(state_of(old)["model"])
    everything = {subwords.ids[piece] for text in texts for piece in subwords.inside(text)}
    kept = used(old, texts) | (everything if kind == "wordpiece" else set())  # a word may be unknown for a longer piece
    new, _ = trim_tokenizer(old, kept)
    for text in texts:
        assert pieces(new, text) == pieces(old, text)


def test_a_slow_tokenizer_is_refused_with_the_way_out():
    class Slow:
        is_fast = False

    with pytest.raises(ModelError, match=r"Slow is a slow tokenizer.*use_fast=True"):
        trim_tokenizer(Slow(), [1])


def test_a_tokenizer_that_numbers_its_tokens_itself_is_refused(monkeypatch):
    old = trained("wordpiece")
    monkeypatch.setattr("hfcompress.modeling.tokenizer_trim._reloaded", lambda tokenizer, core: tokenizer)
    with pytest.raises(ModelError, match="does not take a smaller vocabulary"):
        small(old)
