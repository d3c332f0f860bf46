"""Statistics of rows: labels of every form, lengths in the model's own tokens."""

from datasets import Dataset

from hfcompress.data.statistics import count_labels, row_statistics
from hfcompress.tasks import find_task

NAMES = ["a", "b", "c"]


def test_labels_are_counted_by_name_also_those_that_nobody_has():
    assert count_labels([1, 0, 1], NAMES) == {"a": 1, "b": 2, "c": 0}


def test_several_labels_at_once():
    assert count_labels([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]], NAMES) == {"a": 2, "b": 0, "c": 1}


def test_tags_of_tokens_without_those_that_are_ignored():
    assert count_labels([[0, 2, -100], [], [2]], NAMES) == {"a": 1, "b": 0, "c": 2}


def test_no_labels():
    assert count_labels([], NAMES) == {"a": 0, "b": 0, "c": 0}


def test_lengths_are_tokens_and_long_texts_are_counted(tokenizer):
    rows = Dataset.from_dict({"text": ["film", "the film is fine", "a " * 50], "labels": [0, 1, 1]})
    found = row_statistics(rows, find_task("text-classification"), tokenizer, 10, ["no", "yes"])
    assert found == {
        "rows": 3,
        "labels": {"no": 1, "yes": 2},
        "length": {"median": 6.0, "p95": 9.6, "max": 10, "full": 1},  # 3, 6 and 10 with [CLS] and [SEP]
    }
