"""Scores class by class against counts done by hand."""

import numpy as np
import pytest

from hfcompress.measure.classes import score_classes
from hfcompress.tasks import TASKS

TEXTS = TASKS["text-classification"]
TAGS = TASKS["token-classification"]


def test_classes_and_confusion_by_hand():
    labels = np.array([0, 0, 0, 1, 1, 2])
    answers = np.eye(4)[[0, 0, 1, 1, 0, 1]]
    classes, confusion = score_classes(answers, labels, TEXTS, ["a", "b", "c", "d"])
    assert classes == [
        {"label": "a", "support": 3, "precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3},
        {"label": "b", "support": 2, "precision": 1 / 3, "recall": 1 / 2, "f1": 2 / 5},
        {"label": "c", "support": 1, "precision": 0, "recall": 0, "f1": 0},
        {"label": "d", "support": 0, "precision": 0, "recall": 0, "f1": 0},
    ]
    assert confusion == [[2, 1, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]  # a row is the truth


def test_classes_are_those_of_scikit_learn():
    from sklearn.metrics import precision_recall_fscore_support

    random = np.random.default_rng(0)
    labels, answers = random.integers(5, size=200), random.normal(size=(200, 5))
    classes, _ = score_classes(answers, labels, TASKS["image-classification"], list("abcde"))
    expected = precision_recall_fscore_support(labels, answers.argmax(-1), zero_division=0.0)
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert [row[name] for row in classes] == pytest.approx(list(values))


def test_several_labels_at_once_have_no_confusion():
    answers = np.array([[1.0, -1.0], [2.0, 3.0], [-1.0, -2.0]])
    wanted = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    classes, confusion = score_classes(answers, wanted, TEXTS, ["funny", "sad"])
    assert confusion is None
    assert classes == [
        {"label": "funny", "support": 2, "precision": 1 / 2, "recall": 1 / 2, "f1": 1 / 2},
        {"label": "sad", "support": 1, "precision": 1, "recall": 1, "f1": 1},
    ]


def test_entities_are_scored_by_kind():
    wanted = np.array(["B-PER I-PER O B-LOC", "B-LOC O"])
    said = np.array(["B-PER O O B-LOC", "B-LOC B-ORG"])
    classes, confusion = score_classes(said, wanted, TAGS, ["O", "B-PER", "I-PER", "B-LOC", "B-ORG"])
    assert confusion is None
    assert classes == [
        {"label": "LOC", "support": 2, "precision": 1, "recall": 1, "f1": 1},
        {"label": "ORG", "support": 0, "precision": 0, "recall": 0, "f1": 0},
        {"label": "PER", "support": 1, "precision": 0, "recall": 0, "f1": 0},
    ]


def test_plain_tags_are_scored_word_by_word():
    classes, confusion = score_classes(np.array(["NOUN VERB", "NOUN"]), np.array(["NOUN NOUN", "NOUN"]), TAGS, [])
    assert [(row["label"], row["support"]) for row in classes] == [("NOUN", 3), ("VERB", 0)]
    assert classes[0] == {"label": "NOUN", "support": 3, "precision": 1, "recall": 2 / 3, "f1": 4 / 5}
    assert confusion == [[2, 1], [0, 0]]


@pytest.mark.parametrize(
    ("answers", "references", "task", "labels"),
    [
        (np.ones((3, 1)), np.ones(3), TEXTS, ["value"]),  # a regression
        (np.ones((3, 3)), np.ones(3), TASKS["text-generation"], []),
        (np.ones((3, 8)), np.ones(3), TASKS["sentence-similarity"], []),
        (np.array(["Warsaw"]), np.array([("Warsaw",)], dtype=object), TASKS["question-answering"], []),
    ],
)
def test_answers_that_are_no_classes(answers, references, task, labels):
    assert score_classes(answers, references, task, labels) == (None, None)
