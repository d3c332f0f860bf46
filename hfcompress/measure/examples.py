"""The rows on which a model answers otherwise than the first one: what a compressed model does differently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hfcompress.tasks import Task

if TYPE_CHECKING:
    from datasets import Dataset

MOST = 200
LONGEST = 500

_CLASSIFY = ("text-classification", "image-classification")


def differing_examples(
    answers: Mapping[str, np.ndarray], rows: Dataset, task: Task, labels: Sequence[str]
) -> tuple[list[dict[str, Any]], int] | None:
    """Find the rows on which models differ from the first.

    Args:
        answers: By model, as `predict` returns them.
        rows: The rows they are answers to.
        task: Says what rows and answers are.
        labels: Name by class number.

    Returns:
        The first 200 such rows in their order, each with `input` (cut at 500 characters), the right `label` and the
        models' `answers`; and how many there are in all. None for a task whose answers are neither classes nor texts.
    """
    several = task.name in _CLASSIFY and np.ndim(rows["labels"][0]) == 1
    read = {name: _read(values, task, labels, several) for name, values in answers.items()}
    said = {name: found for name, found in read.items() if found is not None}
    if len(said) < len(answers) or not said:
        return None
    first = next(iter(said.values()))
    differing = [index for index in range(len(rows)) if any(found[index] != first[index] for found in said.values())]
    right = _right(rows, task, labels, several)
    shown = [
        {
            "input": _input(rows, index, task),
            "label": right[index],
            "answers": {name: found[index] for name, found in said.items()},
        }
        for index in differing[:MOST]
    ]
    return shown, len(differing)


def _read(answers: np.ndarray, task: Task, labels: Sequence[str], several: bool) -> list[str] | None:
    """Return a model's answers as people read them."""
    if task.name == "question-answering":
        return [_cut(str(answer)) for answer in answers]
    if task.name not in _CLASSIFY or answers.ndim != 2 or answers.shape[1] != len(labels) or len(labels) < 2:
        return None
    return _listed(answers > 0, labels) if several else [labels[place] for place in answers.argmax(axis=-1)]


def _right(rows: Dataset, task: Task, labels: Sequence[str], several: bool) -> list[str]:
    if task.name == "question-answering":
        return [_cut(next(iter(answer["text"]), "")) for answer in rows["labels"]]
    return _listed(np.asarray(rows["labels"]) > 0.5, labels) if several else [labels[place] for place in rows["labels"]]


def _listed(values: np.ndarray, labels: Sequence[str]) -> list[str]:
    """Return the names of the labels that each row `(rows, labels)` has."""
    return [", ".join(label for label, has in zip(labels, row, strict=True) if has) for row in values]


def _input(rows: Dataset, index: int, task: Task) -> str:
    """Return a row's text, or its number where it is an image."""
    if task.name == "image-classification":
        return f"row {index}"
    texts = rows.select_columns([name for name in ("text", "text_pair") if name in rows.column_names])[index]
    return _cut("\n".join(str(texts[name]) for name in ("text", "text_pair") if name in texts))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
