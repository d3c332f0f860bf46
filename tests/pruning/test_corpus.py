"""The corpus: which texts it holds, and how they are read whole."""

import json

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from tokenizers import pre_tokenizers

from hfcompress.errors import DataError
from hfcompress.pruning.corpus import Reader, read_texts, texts_of
from hfcompress.tasks import find_task
from tests.trained_tokenizers import TEXTS, trained

TASK = find_task("text-classification")


def test_texts_are_found_by_their_type_each_once():
    rows = Dataset.from_dict({"text": ["a b", "a b", ""], "text_pair": ["c", "d", "e"], "labels": [0, 1, 0]})
    assert texts_of(rows) == ["a b", "c", "d", "e"]


def test_words_are_read_as_words_and_as_a_text():
    features = Features({"text": List(Value("string")), "labels": List(ClassLabel(names=["O", "B"]))})
    rows = Dataset.from_dict({"text": [["a", "b"], []], "labels": [[0, 1], []]}, features=features)
    assert texts_of(rows) == [("a", "b"), "a b"]


def test_targets_that_are_texts_count():
    assert texts_of(Dataset.from_dict({"text": ["long"], "labels": ["short"]})) == ["long", "short"]


@pytest.mark.parametrize("kind", ["wordpiece", "byte-level"])
def test_texts_are_neither_cut_nor_padded(kind):
    tokenizer = trained(kind)
    tokenizer(TEXTS[:2], truncation=True, max_length=4, padding="max_length")
    before = tokenizer.backend_tokenizer.to_str()
    read = list(Reader(tokenizer).read(TEXTS))
    assert tokenizer.backend_tokenizer.to_str() == before
    assert read == tokenizer(TEXTS, truncation=False, padding=False)["input_ids"]


@pytest.mark.parametrize("kind", ["wordpiece", "byte-level"])
def test_words_are_read_as_token_classification_reads_them(kind):
    tokenizer = trained(kind)
    words = ("the", "Running", "fox")
    rows = Dataset.from_dict({"text": [list(words)]})
    encoded = find_task("token-classification").encode(rows, tokenizer, None)
    assert list(Reader(tokenizer).read([TEXTS[0], words]))[1] == encoded["input_ids"][0]


def test_words_before_pieces_are_sought():
    assert Reader(trained("wordpiece")).words("The FOX.") == ["the", "fox", "."]
    assert Reader(trained("byte-level")).words(("a", "b")) == ["Ġa", "Ġb"]
    assert Reader(trained("sentencepiece-bpe")).words("a b") == ["▁a▁b"]


def test_a_prefix_that_the_tokenizer_adds_itself_is_not_added_twice():
    tokenizer = trained("byte-level")
    reader = Reader(tokenizer)
    assert reader.space == " "
    split = tokenizer.backend_tokenizer.pre_tokenizer
    try:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        assert Reader(tokenizer).space == ""
    finally:
        tokenizer.backend_tokenizer.pre_tokenizer = split


def test_files_of_every_kind(tmp_path):
    plain, lines, table = tmp_path / "a.txt", tmp_path / "b.jsonl", tmp_path / "c.csv"
    plain.write_text("one film\n\ntwo films\none film\n")
    lines.write_text("".join(json.dumps({"sentence": text, "other": "x"}) + "\n" for text in ("three", "four")))
    table.write_text("words,n\nfive,1\nsix,2\n")
    assert read_texts(str(plain), None, TASK) == ["one film", "", "two films"]
    assert read_texts(str(lines), None, TASK) == ["three", "four"]
    assert read_texts(str(lines), "other", TASK) == ["x"]
    assert read_texts(str(table), "words", TASK) == ["five", "six"]


def test_files_that_cannot_be_read(tmp_path):
    table, latin = tmp_path / "c.csv", tmp_path / "d.txt"
    table.write_text("words,n\nfive,1\n")
    latin.write_bytes(b"caf\xe9\n")
    with pytest.raises(DataError, match=r"has no column for the text that I know\. Its columns: words, n\."):
        read_texts(str(table), None, TASK)
    with pytest.raises(DataError, match=r"there is no column 'word'\. Did you mean 'words'\?"):
        read_texts(str(table), "word", TASK)
    with pytest.raises(DataError, match="is not a text in UTF-8"):
        read_texts(str(latin), None, TASK)
    with pytest.raises(DataError, match="there is no such file"):
        read_texts(str(tmp_path / "none.txt"), None, TASK)
