"""The example of a tagger: it trains a student on words, first pieces only, and saves a model that loads."""

import json
import sys

from transformers import AutoModelForTokenClassification

from tests.test_examples import load
from tests.tiny import sentences, tiny_head

TAGS = {0: "O", 1: "B-FILM"}


def write_tagged(path, count=32):
    """Words, each with the tag 1 if it is `film`."""
    texts = [text.split() for text, _ in sentences(count)]
    rows = [{"tokens": words, "ner_tags": [int(word == "film") for word in words]} for words in texts]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_script_trains_and_saves_a_tagger_that_loads(tokenizer, tmp_path, monkeypatch):
    teacher = tiny_head("bert", "ForTokenClassification", layers=4, id2label=TAGS)
    for part in (teacher, tokenizer):
        part.save_pretrained(tmp_path / "teacher")
    data = write_tagged(tmp_path / "tagged.jsonl")
    words = ["--teacher", tmp_path / "teacher", "--data", data, "--output", tmp_path / "out", "--epochs", "1"]
    monkeypatch.setattr(sys, "argv", ["token_classification.py", *map(str, words)])
    load("token_classification").main()
    model = AutoModelForTokenClassification.from_pretrained(tmp_path / "out")
    assert model.config.num_hidden_layers == 2
    assert model.config.id2label == TAGS


def test_only_first_pieces_of_words_are_labelled():
    class Tokens(dict):
        def word_ids(self, index):
            return [None, 0, 0, 1, None]

    def tokenizer(words, is_split_into_words, truncation):
        return Tokens()

    encoded = load("token_classification").encode({"tokens": [["Ada", "wrote"]], "ner_tags": [[1, 0]]}, tokenizer)
    assert encoded["labels"] == [[-100, 1, -100, 0, -100]]
