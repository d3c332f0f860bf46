"""Checked rows of a task, what identifies them, and what models read of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hfcompress.tasks.base import Task

if TYPE_CHECKING:
    from datasets import Dataset

ORIGIN_COLUMN = "augmented_from"
"""The column of an augmented text that holds the text which it is a variant of."""

TEACHER_PREFIX = "teacher_"
"""Stands before the columns that only the teacher reads, where its tokenizer differs from the student's."""


@dataclass(frozen=True)
class Draw:
    """How validation rows were taken from those of the training split.

    Args:
        seed: Decided which.
        rows: How many.
    """

    seed: int
    rows: int


@dataclass
class TaskData:
    """Checked rows under our column names: `text`, `text_pair`, `image` as the task has them, and `labels`.

    Args:
        train: The rows to train on.
        validation: The rows held out.
        label_names: Name by label number; empty where labels have no names.
        max_length: Texts are cut to so many tokens; None means the tokenizer's limit.
        overlap: How many validation texts also stand in the training rows.
        problem_type: For the model's config; None when it says nothing.
        unlabeled: Rows that only the teacher speaks on, their labels unknown; None when there are none.
        draw: How the validation rows were drawn from the training split; None where they are of their own.
    """

    train: Dataset
    validation: Dataset
    label_names: tuple[str, ...]
    max_length: int | None
    overlap: int = 0
    problem_type: str | None = None
    unlabeled: Dataset | None = None
    draw: Draw | None = None

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over all rows in their order: the same exactly when inputs, labels and the split are."""
        parts = [part for part in (self.train, self.validation, self.unlabeled) if part is not None]
        return fingerprint(repr(self.label_names), *parts)

    @property
    def with_unlabeled(self) -> Dataset:
        """The rows to train on and after them those without labels."""
        if self.unlabeled is None:
            return self.train
        from datasets import concatenate_datasets

        return concatenate_datasets([self.train, self.unlabeled.cast(self.train.features)])


def row_lengths(encoded: Dataset, main_input_name: str) -> list[int]:
    """Return how many tokens each row has; of images, which are all of one size, 1."""
    return [len(ids) for ids in encoded[main_input_name]] if main_input_name == "input_ids" else [1] * len(encoded)


def fingerprint(start: str, *parts: Dataset) -> str:
    """Return the SHA-256 of rows, column by column, in their order."""
    digest = hashlib.sha256(start.encode())
    for part in parts:
        for column in part.column_names:
            digest.update(repr((column, list(map(_plain, part[column])))).encode())
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """Return a value by its contents: an image prints its place in memory."""
    return (value.mode, value.size, hashlib.sha256(value.tobytes()).hexdigest()) if hasattr(value, "tobytes") else value


def encode(rows: Dataset, task: Task, processor: Any, max_length: int | None, teacher_processor: Any = None) -> Dataset:
    """Turn rows into what the models read.

    Args:
        rows: Our columns.
        task: Knows how.
        processor: The student's tokenizer or image processor.
        max_length: Cut to so many tokens; None means the tokenizers' own limits.
        teacher_processor: Given when the teacher reads other tokens; fills columns that start with `teacher_`.

    Returns:
        What the processors return, unpadded, and the labels.
    """
    encoded = task.encode(rows, processor, max_length)
    if teacher_processor is None:
        return encoded
    from datasets import concatenate_datasets

    theirs = task.encode(rows, teacher_processor, max_length)
    theirs = theirs.remove_columns([name for name in theirs.column_names if name in task.label_columns])
    theirs = theirs.rename_columns({name: TEACHER_PREFIX + name for name in theirs.column_names})
    return concatenate_datasets([encoded, theirs], axis=1)
