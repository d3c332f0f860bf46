"""Which data a user names, and which of its columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, MinLen

from hfcompress.config import option

ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]


@dataclass
class DataConfig:
    """Which data, and which of its columns."""

    dataset: Annotated[str, MinLen(1)] = option(
        help="Hub id (name or name:config), or a csv, json, jsonl or parquet file, or a folder of them"
    )
    text_column: str | None = option(None, help="column with the text (default: text, sentence, … when unambiguous)")
    text_pair_column: str | None = option(None, help="column with the second text of a pair, or a question's context")
    image_column: str | None = option(None, help="column with the image (default: image, img)")
    label_column: str | None = option(
        None, help="column with the label: a class, a list, a number, an answer, a target text (default: label, …)"
    )
    problem_type: ProblemType | None = option(None, help="kind of classification (default: what model and labels say)")
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
    unlabeled_dataset: str | None = option(
        None, help="more text, as --dataset, on which the teacher alone speaks; its labels, if any, are not read"
    )
    unlabeled_text_column: str | None = option(None, help="its column with the text (default: as in the data set)")
    unlabeled_where: dict[str, str | int] = option({}, help="keep only its rows whose columns have these values")
    unlabeled_ratio: Annotated[float, Gt(0)] | None = option(
        None, help="unlabelled rows for each training row, drawn by the seed (default: all of them)"
    )
