"""A Hub id, a file or a folder becomes checked training and validation rows."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from hfcompress.data.columns import choose_columns, tidy
from hfcompress.data.config import DataConfig
from hfcompress.data.task_data import ORIGIN_COLUMN, Draw, TaskData
from hfcompress.errors import DataError, Fault, unknown
from hfcompress.reading import load_file, load_splits
from hfcompress.sources import resolve
from hfcompress.tasks.base import LabelOptions, Task

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

_VALIDATION_SPLITS = ("validation", "validation_matched", "dev", "test")


def load_data(
    config: DataConfig,
    seed: int,
    task: Task,
    model_labels: tuple[str, ...] | None = None,
    problem_type: str | None = None,
) -> TaskData:
    """Load, check and split a data set.

    Args:
        config: Which data and which columns.
        seed: Decides which rows are held out, when the data has no validation split.
        task: Says which columns there must be, and what labels are.
        model_labels: The label names that the model was trained with, in order; None for an untrained head.
        problem_type: What the model's config says of its labels.

    Raises:
        DataError: Anything wrong with the data: every fault that could be found at once.
        NetworkError: It would have to come from the Hub, which cannot be reached.
    """
    splits = load_splits(config.dataset)
    train = _split(splits, config.train_split, config)
    validation = _given_validation(splits, config)
    columns = choose_columns(train.column_names, config, task)
    train = tidy(train, columns, config, "training", task)
    draw = None
    if validation is None:
        train, validation = _hold_out(train, config, seed, task)
        draw = Draw(seed, len(validation))
    else:
        validation = tidy(validation, columns, config, "validation", task)
    options = LabelOptions(config.label_names, model_labels, config.problem_type or problem_type)
    labelled = task.encode_labels({"training": train, "validation": validation}, options)
    train, validation = labelled.parts["training"], labelled.parts["validation"]
    if config.max_train_samples and config.max_train_samples < len(train):
        train = train.shuffle(seed=seed).select(range(config.max_train_samples))
    overlap = len(set(train["text"]) & set(validation["text"])) if _is_one_text(columns, train) else 0
    data = TaskData(train, validation, labelled.names, config.max_length, overlap, labelled.problem_type, draw=draw)
    if config.unlabeled_dataset:
        data.unlabeled = load_unlabeled(config, seed, task, data)
    return data


def _is_one_text(columns: dict[str, str], rows: Dataset) -> bool:
    return "text" in columns and "text_pair" not in columns and isinstance(rows["text"][0], str)


def _texts(rows: Dataset) -> set[str]:
    """Return the texts of rows, none where they hold something else."""
    return {text for text in rows["text"] if isinstance(text, str)} if "text" in rows.column_names else set()


def load_unlabeled(config: DataConfig, seed: int, task: Task, data: TaskData) -> Dataset:
    """Load the rows that only the teacher speaks on, with labels that say so.

    Texts that are held out, and variants of them that `hfcompress augment` made, are left out.

    Args:
        config: Which data; `unlabeled_ratio` says how many rows for each training row.
        seed: Decides which rows are drawn.
        task: Says which columns there must be.
        data: The training rows: the same columns, and labels of the same form; and the rows held out.

    Raises:
        DataError: Anything wrong with the data, or fewer rows than the ratio asks for.
        NetworkError: It would have to come from the Hub, which cannot be reached.
    """
    source, train = str(config.unlabeled_dataset), data.train
    rows = _split(load_splits(source), config.train_split, dataclasses.replace(config, dataset=source))
    theirs = dataclasses.replace(
        config,
        dataset=source,
        text_column=config.unlabeled_text_column or _if_present(config.text_column, rows),
        label_column=None,
        where=config.unlabeled_where,
    )
    columns = choose_columns(rows.column_names, theirs, task, labeled=False)
    absent = [name for name in train.column_names if name not in (*columns, "labels")]
    if absent:
        raise DataError(Fault(source, f"has no {', '.join(absent)}, which the training rows have."))
    origins = rows[ORIGIN_COLUMN] if ORIGIN_COLUMN in rows.column_names else None
    held_out = _texts(data.validation)
    if origins is not None:
        rows = rows.select([index for index, origin in enumerate(origins) if origin not in held_out])
    rows = tidy(rows, columns, theirs, "unlabelled", task)
    if _is_one_text(columns, rows):
        rows = rows.select([index for index, text in enumerate(rows["text"]) if text not in held_out])
    if config.unlabeled_ratio is not None:
        wanted = round(config.unlabeled_ratio * len(train))
        if wanted > len(rows):
            most = math.floor(1000 * len(rows) / len(train)) / 1000
            problem = f"asks for {wanted} rows, {source} has {len(rows)}."
            raise DataError(Fault("unlabeled_ratio", problem, f"Give at most {most:g}, or leave it out."))
        rows = rows.shuffle(seed=seed).select(range(max(1, wanted)))
    if "labels" not in train.column_names:
        return rows
    return rows.add_column("labels", task.unknown_labels(rows, train["labels"][0]))


def _if_present(column: str | None, rows: Dataset) -> str | None:
    return column if column in rows.column_names else None


def load_validation(
    config: DataConfig, model_labels: tuple[str, ...], seed: int, task: Task, problem_type: str | None = None
) -> TaskData:
    """Load and check rows to evaluate on: the validation split where there is one, else all rows.

    A fraction or number gives the rows that training with the same seed holds out.

    Args:
        config: Which data and which columns; `validation` names a split or a file, or a share of the rows.
        model_labels: The label names that the models were trained with, in order.
        seed: Decides which rows a fraction or number holds out.
        task: Says which columns there must be, and what labels are.
        problem_type: What the model's config says of its labels.

    Raises:
        DataError: Anything wrong with the data.
        NetworkError: It would have to come from the Hub, which cannot be reached.
    """
    splits = load_splits(config.dataset)
    given = _given_validation(splits, config)
    rows = given if given is not None else _split(splits, config.train_split, config)
    rows = tidy(rows, choose_columns(rows.column_names, config, task), config, "validation", task)
    if given is None and config.validation is not None:
        _, rows = _hold_out(rows, config, seed, task)
    options = LabelOptions(config.label_names, model_labels, config.problem_type or problem_type)
    labelled = task.encode_labels({"validation": rows}, options)
    rows = labelled.parts["validation"]
    draw = Draw(seed, len(rows)) if given is None else None
    return TaskData(rows, rows, labelled.names, config.max_length, problem_type=labelled.problem_type, draw=draw)


def _split(splits: DatasetDict, name: str, config: DataConfig) -> Dataset:
    if name not in splits:
        raise DataError(unknown("split", name, splits, config.dataset))
    return splits[name]


def _given_validation(splits: DatasetDict, config: DataConfig) -> Dataset | None:
    """Return the validation rows that the data or the user names, None when rows are to be held out."""
    if config.validation is None:
        found = next((name for name in _VALIDATION_SPLITS if name in splits and name != config.train_split), None)
        return splits[found] if found else None
    if isinstance(config.validation, (int, float)) or _is_number(config.validation):
        return None
    file = Path(resolve(config.validation))
    if file.is_file():
        return load_file(file)
    return _split(splits, config.validation, config)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _hold_out(rows: Dataset, config: DataConfig, seed: int, task: Task) -> tuple[Dataset, Dataset]:
    """Split rows into training and validation ones, each class in the same proportion where that can be."""
    from sklearn.model_selection import train_test_split

    share = 0.1 if config.validation is None else float(config.validation)
    size = round(share * len(rows) if share < 1 else share) if math.isfinite(share) else 0
    if not 1 <= size < len(rows):
        problem = f"cannot hold out {config.validation or share} of {len(rows)} rows."
        raise DataError(Fault("validation", problem, "Give a fraction below 1, or a number below the number of rows."))
    labels = task.stratify(rows)
    counts = Counter(labels or ())
    can_stratify = bool(counts) and min(counts.values()) > 1 and size >= len(counts) <= len(rows) - size
    train, held_out = train_test_split(
        range(len(rows)), test_size=size, random_state=seed, stratify=labels if can_stratify else None
    )
    return rows.select(sorted(train)), rows.select(sorted(held_out))
