"""Quality class by class: precision, recall, F1, how many rows there are, and which classes are taken for which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from hfcompress.tasks import Task
from hfcompress.tasks.entities import Entity, entities, marks_entities

Classes = list[dict[str, Any]]
Confusion = list[list[int]]


def score_classes(
    answers: np.ndarray, references: np.ndarray, task: Task, labels: Sequence[str]
) -> tuple[Classes | None, Confusion | None]:
    """Score each class by itself.

    Args:
        answers: As `predict` returns them.
        references: As the task's `references`.
        task: Says what the answers are.
        labels: Name by class number.

    Returns:
        `label`, `support`, `precision`, `recall` and `f1` of each class, and how often each (a row) was taken for each
        (a column). The second is None where there can be several at once, or entities; both are None where answers
        are no classes.
    """
    if task.name == "token-classification":
        return _score_tags(answers, references)
    if not task.names_labels or answers.ndim != 2 or len(labels) < 2 or answers.shape[1] != len(labels):
        return None, None
    if references.ndim == 2:
        return _score_columns(answers > 0, references > 0.5, labels), None
    return _score_numbers(answers.argmax(axis=-1), references, labels)


def _score_numbers(predicted: np.ndarray, wanted: np.ndarray, labels: Sequence[str]) -> tuple[Classes, Confusion]:
    """Score class numbers `(rows,)`."""
    from sklearn.metrics import confusion_matrix

    numbers = np.arange(len(labels))
    matrix = confusion_matrix(wanted, predicted, labels=numbers)
    return _score_columns(predicted[:, None] == numbers, wanted[:, None] == numbers, labels), matrix.tolist()


def _score_columns(predicted: np.ndarray, wanted: np.ndarray, labels: Sequence[str]) -> Classes:
    """Score yes and no `(rows, classes)`."""
    hits, said, meant = (predicted & wanted).sum(0), predicted.sum(0), wanted.sum(0)
    counts = zip(labels, hits.tolist(), said.tolist(), meant.tolist(), strict=True)
    return [_class(*count) for count in counts]


def _class(label: str, hits: int, said: int, meant: int) -> dict[str, Any]:
    """Return a class's scores; each is 0 where there is nothing to divide by."""
    return {
        "label": label,
        "support": meant,
        "precision": hits / max(1, said),
        "recall": hits / max(1, meant),
        "f1": 2 * hits / max(1, said + meant),
    }


def _score_tags(answers: np.ndarray, references: np.ndarray) -> tuple[Classes, Confusion | None]:
    """Score rows of tags separated by spaces: kinds of entities where tags mark such, single tags otherwise."""
    predicted, wanted = ([str(row).split(" ") for row in rows.ravel()] for rows in (answers, references))
    if marks_entities({tag for row in (*predicted, *wanted) for tag in row}):
        return _score_entities(predicted, wanted), None
    labels = sorted({tag for row in (*predicted, *wanted) for tag in row})
    number = {label: index for index, label in enumerate(labels)}
    ours, theirs = (np.array([number[tag] for row in rows for tag in row]) for rows in (predicted, wanted))
    return _score_numbers(ours, theirs, labels)


def _score_entities(predicted: Sequence[Sequence[str]], wanted: Sequence[Sequence[str]]) -> Classes:
    """Score whole entities, kind by kind."""
    ours, theirs = _entities(predicted), _entities(wanted)
    hits, said, meant = (Counter(entity[0] for _, entity in found) for found in (ours & theirs, ours, theirs))
    return [_class(kind, hits[kind], said[kind], meant[kind]) for kind in sorted({*said, *meant})]


def _entities(rows: Sequence[Sequence[str]]) -> set[tuple[int, Entity]]:
    return {(index, entity) for index, row in enumerate(rows) for entity in entities(row)}
