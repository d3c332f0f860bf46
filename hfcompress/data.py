"""Data: a Hub id, a file or a folder becomes checked, tokenized training and validation sets."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt, MinLen

from hfcompress.config import option
from hfcompress.errors import DataError, Fault, unknown
from hfcompress.labels import encode_labels, encode_validation
from hfcompress.reading import load_file, load_splits
from hfcompress.sources import resolve

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from transformers import BatchEncoding, PreTrainedTokenizerBase

_TEXT_COLUMNS = ("text", "sentence", "content", "review", "sentence1", "premise", "question", "title")
_LABEL_COLUMNS = ("label", "labels", "target", "class", "category")
_VALIDATION_SPLITS = ("validation", "validation_matched", "dev", "test")

TEACHER_PREFIX = "teacher_"
"""Stands before the columns that only the teacher reads, where its tokenizer differs from the student's."""


@dataclass
class DataConfig:
    """Which data, and which of its columns."""

    dataset: Annotated[str, MinLen(1)] = option(
        help="Hub id (name or name:config), or a csv, json, jsonl or parquet file, or a folder of them"
    )
    text_column: str | None = option(None, help="column with the text (default: text, sentence, … when unambiguous)")
    text_pair_column: str | None = option(None, help="column with the second text of a pair")
    label_column: str | None = option(None, help="column with the label (default: label, labels, …)")
    label_names: list[str] | None = option(None, help="names of the labels in the order of their numbers")
    train_split: str = option("train", help="split to train on")
    validation: str | int | float | None = option(
        None, help="what to evaluate on: a split, a file, a fraction or a number of rows (default: its split, or 0.1)"
    )
    where: dict[str, str | int] = option({}, help="keep only rows whose columns have these values")
    max_train_samples: Annotated[int, Gt(0)] | None = option(None, help="train on at most so many rows")
    max_length: Annotated[int, Ge(4)] | None = option(
        None, help="cut texts to so many tokens (default: the model's limit)"
    )
    drop_missing: bool = option(False, help="leave out rows without a text instead of refusing them")


@dataclass
class TextData:
    """Checked rows: columns `text`, `text_pair` where there are pairs, and `labels` as numbers.

    Args:
        train: The rows to train on.
        validation: The rows held out.
        label_names: Name by label number.
        max_length: Texts are cut to so many tokens; None means the tokenizer's limit.
        overlap: How many validation texts also stand in the training rows.
    """

    train: Dataset
    validation: Dataset
    label_names: tuple[str, ...]
    max_length: int | None
    overlap: int = 0

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over all rows in their order: the same exactly when texts, labels and the split are."""
        digest = hashlib.sha256(repr(self.label_names).encode())
        for part in (self.train, self.validation):
            for column in part.column_names:
                digest.update(repr((column, list(part[column]))).encode())
        return digest.hexdigest()


def load_data(config: DataConfig, seed: int, model_labels: tuple[str, ...] | None = None) -> TextData:
    """Load, check and split a labelled text data set.

    Args:
        config: Which data and which columns.
        seed: Decides which rows are held out, when the data has no validation split.
        model_labels: The label names that the model was trained with, in order; None for an untrained head.

    Raises:
        DataError: Anything wrong with the data: every fault that could be found at once.
        NetworkError: It would have to come from the Hub, which cannot be reached.
    """
    splits = load_splits(config.dataset)
    train = _split(splits, config.train_split, config)
    validation = _given_validation(splits, config)
    columns = _choose_columns(train.column_names, config)
    train = _tidy(train, columns, config, "training")
    if validation is None:
        train, validation = _hold_out(train, config, seed)
    else:
        validation = _tidy(validation, columns, config, "validation")
    train, validation, names = encode_labels(train, validation, config.label_names, model_labels)
    if config.max_train_samples and config.max_train_samples < len(train):
        train = train.shuffle(seed=seed).select(range(config.max_train_samples))
    overlap = len(set(train["text"]) & set(validation["text"])) if "text_pair" not in columns else 0
    return TextData(train, validation, names, config.max_length, overlap)


def load_validation(config: DataConfig, model_labels: tuple[str, ...], seed: int) -> TextData:
    """Load and check rows to evaluate on: the validation split where there is one, else all rows.

    A fraction or number gives the rows that training with the same seed holds out.

    Args:
        config: Which data and which columns; `validation` names a split or a file, or a share of the rows.
        model_labels: The label names that the models were trained with, in order.
        seed: Decides which rows a fraction or number holds out.

    Raises:
        DataError: Anything wrong with the data.
        NetworkError: It would have to come from the Hub, which cannot be reached.
    """
    splits = load_splits(config.dataset)
    given = _given_validation(splits, config)
    rows = given if given is not None else _split(splits, config.train_split, config)
    rows = _tidy(rows, _choose_columns(rows.column_names, config), config, "validation")
    if given is None and config.validation is not None:
        _, rows = _hold_out(rows, config, seed)
    rows, names = encode_validation(rows, config.label_names, model_labels)
    return TextData(rows, rows, names, config.max_length)


def tokenize(
    rows: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int | None,
    teacher_tokenizer: PreTrainedTokenizerBase | None = None,
) -> Dataset:
    """Replace texts by token ids.

    Args:
        rows: Columns `text`, perhaps `text_pair`, and `labels`.
        tokenizer: The student's tokenizer.
        max_length: Cut to so many tokens; None means the tokenizers' own limits.
        teacher_tokenizer: Given when the teacher reads other tokens; fills columns that start with `teacher_`.

    Returns:
        Columns `labels` and what the tokenizers return, unpadded.
    """

    def encode(batch: dict[str, list[Any]]) -> dict[str, Any]:
        columns = dict(_encode(tokenizer, batch, max_length))
        if teacher_tokenizer is not None:
            teacher = _encode(teacher_tokenizer, batch, max_length)
            columns |= {TEACHER_PREFIX + name: value for name, value in teacher.items()}
        return columns

    texts = [name for name in rows.column_names if name != "labels"]
    return rows.map(encode, batched=True, remove_columns=texts, desc="tokenizing")


def _encode(tokenizer: PreTrainedTokenizerBase, batch: dict[str, list[Any]], max_length: int | None) -> BatchEncoding:
    limit = min(max_length or tokenizer.model_max_length, tokenizer.model_max_length)
    # Tokenizers without a limit of their own say a huge number, which the fast ones cannot take.
    truncation = {"truncation": True, "max_length": limit} if limit < 1_000_000 else {}
    # The segment ids are asked for by name: DistilBERT's tokenizer leaves them out, its BERT teacher wants them.
    return tokenizer(batch["text"], batch.get("text_pair"), return_token_type_ids=True, **truncation)


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


def _choose_columns(present: list[str], config: DataConfig) -> dict[str, str]:
    """Map our column names to the data's.

    Raises:
        DataError: A column is absent, or several could be meant; every such fault.
    """
    wanted = {
        "text": (config.text_column, _TEXT_COLUMNS, "--text-column"),
        "text_pair": (config.text_pair_column, (), "--text-pair-column"),
        "labels": (config.label_column, _LABEL_COLUMNS, "--label-column"),
    }
    chosen, faults = {}, []
    for ours, (given, usual, flag) in wanted.items():
        candidates = [given] if given else [name for name in usual if name in present]
        if ours == "text_pair" and not given:
            continue
        if given and given not in present:
            faults.append(unknown("column", given, present, config.dataset))
        elif not candidates:
            problem = f"has no column for the {ours} that I know."
            faults.append(Fault(config.dataset, problem, f"Its columns: {', '.join(present)}. Pass {flag}."))
        elif len(candidates) > 1:
            problem = f"has several columns that may be the {ours}: {', '.join(candidates)}."
            faults.append(Fault(config.dataset, problem, f"Pass {flag}."))
        else:
            chosen[ours] = candidates[0]
    if len(set(chosen.values())) < len(chosen):
        listed = ", ".join(f"{ours} '{theirs}'" for ours, theirs in chosen.items())
        faults.append(Fault(config.dataset, f"one column cannot serve twice: {listed}."))
    faults += [unknown("column", name, present, "where") for name in config.where if name not in present]
    if faults:
        raise DataError(*faults)
    return chosen


def _tidy(rows: Dataset, columns: dict[str, str], config: DataConfig, part: str) -> Dataset:
    """Keep the rows and columns asked for, under our names.

    Raises:
        DataError: Nothing is left, or texts are missing.
    """
    absent = [name for name in columns.values() if name not in rows.column_names]
    if absent:
        raise DataError(Fault(config.dataset, f"its {part} rows have no column {', '.join(absent)}."))
    if config.where:
        rows = rows.filter(lambda row: all(str(row[name]) == str(value) for name, value in config.where.items()))
    ours = {old: new for new, old in columns.items() if old != new}
    rows = rows.select_columns(list(columns.values())).rename_columns(ours)
    texts = [name for name in columns if name != "labels"]
    bad = [index for index, row in enumerate(rows.select_columns(texts)) if any(map(_is_missing, row.values()))]
    if bad and config.drop_missing:
        rows = rows.select(sorted(set(range(len(rows))) - set(bad)))
    elif bad:
        which = ", ".join(str(index) for index in bad[:5]) + (" …" if len(bad) > 5 else "")
        got = next(filter(_is_missing, rows.select_columns(texts)[bad[0]].values()))
        problem = (
            f"{len(bad)} of the {len(rows)} {part} rows have no text (rows {which}, from 0; the first has {got!r})."
        )
        raise DataError(Fault(config.dataset, problem, "Fill them, or leave them out with --drop-missing."))
    if len(rows) == 0:
        raise DataError(Fault(config.dataset, f"has no {part} rows{' that match `where`' if config.where else ''}."))
    return rows


def _is_missing(text: object) -> bool:
    return not isinstance(text, str) or not text.strip()


def _hold_out(rows: Dataset, config: DataConfig, seed: int) -> tuple[Dataset, Dataset]:
    """Split rows into training and validation ones, each class in the same proportion where that can be."""
    from sklearn.model_selection import train_test_split

    share = 0.1 if config.validation is None else float(config.validation)
    size = round(share * len(rows) if share < 1 else share) if math.isfinite(share) else 0
    if not 1 <= size < len(rows):
        problem = f"cannot hold out {config.validation or share} of {len(rows)} rows."
        raise DataError(Fault("validation", problem, "Give a fraction below 1, or a number below the number of rows."))
    labels = [str(label) for label in rows["labels"]]
    rarest = min(labels.count(label) for label in set(labels))
    can_stratify = rarest > 1 and size >= len(set(labels)) <= len(rows) - size
    train, held_out = train_test_split(
        range(len(rows)), test_size=size, random_state=seed, stratify=labels if can_stratify else None
    )
    return rows.select(sorted(train)), rows.select(sorted(held_out))
