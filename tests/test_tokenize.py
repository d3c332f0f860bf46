"""Encoding texts: each model's own tokens, cut where asked or where its tokenizer says, pairs as two segments."""

import pytest
from datasets import Dataset

from hfcompress.data import encode, row_lengths
from hfcompress.errors import ModelError
from hfcompress.tasks import TASKS
from tests.tiny import tiny_tokenizer

TASK = TASKS["text-classification"]
WORDS = {"text": ["the film is fine", "dull"], "labels": [1, 0]}


def test_texts_become_token_ids(tokenizer):
    rows = encode(Dataset.from_dict(WORDS), TASK, tokenizer, None)
    assert set(rows.column_names) == {"labels", "input_ids", "token_type_ids", "attention_mask"}
    ids = tokenizer.convert_tokens_to_ids(["[CLS]", "the", "film", "is", "fine", "[SEP]"])
    assert rows[0]["input_ids"] == ids
    assert rows[1]["attention_mask"] == [1, 1, 1]
    assert rows["labels"][:] == [1, 0]
    assert row_lengths(rows, "input_ids") == [6, 3]
    assert row_lengths(rows, "pixel_values") == [1, 1]


def test_pairs_become_two_segments(tokenizer):
    rows = encode(Dataset.from_dict({**WORDS, "text_pair": ["cold", "a plot"]}), TASK, tokenizer, None)
    assert rows[1]["token_type_ids"] == [0, 0, 0, 1, 1, 1]
    assert rows[1]["input_ids"] == tokenizer.convert_tokens_to_ids(["[CLS]", "dull", "[SEP]", "a", "plot", "[SEP]"])


@pytest.mark.parametrize(
    ("max_length", "limit", "length"),
    [(4, 64, 4), (None, 64, 64), (80, 64, 64), (80, int(1e30), 80), (None, int(1e30), 92)],
)
def test_texts_are_cut_to_the_smaller_limit(max_length, limit, length):
    cutting = tiny_tokenizer()
    cutting.model_max_length = limit
    rows = encode(Dataset.from_dict({"text": ["the " * 90], "labels": [0]}), TASK, cutting, max_length)
    assert len(rows[0]["input_ids"]) == length
    assert rows[0]["input_ids"][-1] == cutting.sep_token_id


def test_a_teacher_with_other_tokens_gets_its_own_columns(tokenizer):
    other = tiny_tokenizer(extra=["zebra"])
    rows = encode(Dataset.from_dict(WORDS), TASK, tokenizer, 5, other)
    assert {f"teacher_{name}" for name in ("input_ids", "token_type_ids", "attention_mask")} < set(rows.column_names)
    assert rows[0]["input_ids"] == tokenizer("the film is fine", truncation=True, max_length=5)["input_ids"]
    shifted = [i + 1 if i > 4 else i for i in rows[0]["input_ids"]]
    assert rows[0]["teacher_input_ids"] == shifted


def test_a_tokenizer_without_a_padding_token_is_refused():
    bare = tiny_tokenizer()
    bare.pad_token = None
    with pytest.raises(ModelError, match="has no padding token.*tokenizer.pad_token = tokenizer.eos_token"):
        TASK.collator(bare)
