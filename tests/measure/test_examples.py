"""The rows on which models differ: which they are, how many, and how they are shown."""

import numpy as np
import pytest
from datasets import Dataset

from hfcompress.measure.examples import LONGEST, MOST, differing_examples
from hfcompress.tasks import TASKS

TEXTS = TASKS["text-classification"]
LABELS = ["bad", "good"]


def test_rows_on_which_a_model_differs_from_the_first():
    rows = Dataset.from_dict({"text": ["one", "two", "three", "four"], "labels": [0, 1, 1, 0]})
    large, small, tiny = (np.eye(2)[answers] for answers in ([0, 1, 1, 1], [0, 1, 0, 1], [1, 1, 1, 1]))
    shown, total = differing_examples({"large": large, "small": small, "tiny": tiny}, rows, TEXTS, LABELS)
    assert total == 2
    assert shown == [
        {"input": "one", "label": "bad", "answers": {"large": "bad", "small": "bad", "tiny": "good"}},
        {"input": "three", "label": "good", "answers": {"large": "good", "small": "bad", "tiny": "good"}},
    ]


def test_long_texts_are_cut_and_many_rows_counted():
    count = MOST + 50
    rows = Dataset.from_dict({"text": ["x" * 600] * count, "text_pair": ["y"] * count, "labels": [0] * count})
    answers = {"large": np.eye(2)[[0] * count], "small": np.eye(2)[[1] * count]}
    shown, total = differing_examples(answers, rows, TEXTS, LABELS)
    assert (len(shown), total) == (MOST, count)
    assert shown[0]["input"] == "x" * (LONGEST - 1) + "…"
    short = Dataset.from_dict({"text": ["a"] * count, "text_pair": ["b"] * count, "labels": [0] * count})
    assert differing_examples(answers, short, TEXTS, LABELS)[0][0]["input"] == "a\nb"


def test_several_labels_at_once():
    rows = Dataset.from_dict({"text": ["a"], "labels": [[1.0, 1.0]]})
    answers = {"large": np.array([[1.0, 2.0]]), "small": np.array([[1.0, -2.0]])}
    ((shown,), total) = differing_examples(answers, rows, TEXTS, LABELS)
    assert (total, shown["label"], shown["answers"]) == (1, "bad, good", {"large": "bad, good", "small": "bad"})


def test_answers_to_questions_are_texts():
    answer = {"text": ["Warsaw"], "answer_start": [0]}
    none = {"text": [], "answer_start": []}
    rows = Dataset.from_dict({"text": ["Where?", "Who?"], "text_pair": ["Warsaw it is", "x"], "labels": [answer, none]})
    answers = {"large": np.array(["Warsaw", "x"]), "small": np.array(["Warsaw", ""])}
    ((shown,), total) = differing_examples(answers, rows, TASKS["question-answering"], [])
    assert total == 1
    assert shown == {"input": "Who?\nx", "label": "", "answers": {"large": "x", "small": ""}}


def test_images_are_shown_by_their_number():
    rows = Dataset.from_dict({"image": [b"", b""], "labels": [0, 1]})
    answers = {"large": np.eye(2)[[0, 1]], "small": np.eye(2)[[0, 0]]}
    ((shown,), _) = differing_examples(answers, rows, TASKS["image-classification"], LABELS)
    assert shown == {"input": "row 1", "label": "good", "answers": {"large": "good", "small": "bad"}}


@pytest.mark.parametrize("task", ["sentence-similarity", "text-generation", "token-classification"])
def test_tasks_without_answers_to_show(task):
    rows = Dataset.from_dict({"text": ["a"], "labels": [0]})
    assert differing_examples({"one": np.ones((1, 2)), "other": np.zeros((1, 2))}, rows, TASKS[task], []) is None
