"""Text classification: one class a text or pair of texts, several at once, or a number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hfcompress.errors import DataError, Fault
from hfcompress.label_kinds import (
    encode_label_lists,
    encode_numbers,
    holds_lists,
    holds_numbers,
    refuse_written_lists,
)
from hfcompress.labels import encode_classes, some
from hfcompress.tasks.base import IGNORED, Column, Labelled, LabelOptions, Task
from hfcompress.tasks.text import TextCollator, tokenize_texts

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from torch import Tensor
    from transformers.utils.generic import ModelOutput

    from hfcompress.tasks.base import Collator

MULTI_LABEL = "multi_label_classification"
REGRESSION = "regression"


class TextClassification(Task):
    """One class a text (or pair of texts), several classes at once where labels are lists, or a number."""

    def encode_labels(self, parts: dict[str, Dataset], options: LabelOptions) -> Labelled:
        """Turn labels into class numbers, 0-or-1 vectors (labels that are lists), or numbers (a regression)."""
        kind = options.problem_type or _kind_of(next(iter(parts.values())), options.model_names)
        if kind == REGRESSION:
            _check_outputs(options.model_names)
            return Labelled(encode_numbers(parts), ("value",), REGRESSION)
        if kind == MULTI_LABEL:
            return Labelled(*encode_label_lists(parts, options.names, options.model_names), MULTI_LABEL)
        refuse_written_lists(parts)
        return Labelled(*encode_classes(parts, options.names, options.model_names))

    def unknown_labels(self, rows: Dataset, known: Any) -> list[Any]:
        """Return -100, or NaN where labels are numbers."""
        unknown: Any = float("nan") if isinstance(known, float) else IGNORED
        return [[float("nan")] * len(known) if isinstance(known, list) else unknown] * len(rows)

    def encode(self, rows: Dataset, processor: Any, max_length: int | None) -> Dataset:
        """Tokenize texts and pairs."""
        texts = [name for name in rows.column_names if name != "labels"]
        return rows.map(
            lambda batch: dict(tokenize_texts(processor, batch, max_length)),
            batched=True,
            remove_columns=texts,
            desc="tokenizing",
        )

    def collator(self, processor: Any) -> Collator:
        """Pad with the tokenizer."""
        return TextCollator(processor)

    def stratify(self, rows: Dataset) -> list[str] | None:
        """Return each row's class; lists and numbers are not stratified."""
        labels = rows["labels"]
        return None if isinstance(labels[0], (list, float)) else [str(label) for label in labels]

    def rows(self, outputs: ModelOutput, batch: Mapping[str, Any]) -> tuple[Tensor | None, Tensor | None]:
        """Return one row a text; of several labels at once, one row a label with the classes no `(0)` and yes."""
        import torch

        logits, labels = outputs["logits"], batch.get("labels")
        if labels is None or not labels.is_floating_point():
            return logits, labels
        if labels.ndim == 1:
            return logits, None
        yes = logits.flatten()
        classes = labels.nan_to_num(nan=IGNORED).long().flatten()
        return torch.stack([torch.zeros_like(yes), yes], dim=-1), classes

    def count_rows(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the number of texts, times the labels where each text has several."""
        count, labels = super().count_rows(batch), batch.get("labels")
        return count if labels is None or labels.ndim == 1 else count * labels.shape[1]

    def count_labels(self, batch: Mapping[str, Any]) -> Tensor:
        """Return how many texts have labels."""
        labels = batch.get("labels")
        if labels is None or not labels.is_floating_point():
            return super().count_labels(batch)
        return labels.reshape(len(labels), -1).isnan().any(-1).logical_not().sum()

    def loss_is_ours(self, batch: Mapping[str, Any]) -> bool:
        """Say whether labels that are numbers are unknown for some texts: models would count the NaN in."""
        labels = batch["labels"]
        return labels.is_floating_point() and bool(labels.isnan().any())

    def known_loss(self, outputs: ModelOutput, batch: Mapping[str, Any]) -> Tensor:
        """Return the loss over texts with labels: binary cross entropy of several labels, squared error of a number."""
        from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

        labels = batch["labels"]
        known = labels.reshape(len(labels), -1).isnan().any(-1).logical_not()
        logits, labels = outputs["logits"][known].float(), labels[known].float()
        if labels.ndim == 2:
            return binary_cross_entropy_with_logits(logits, labels)
        return mse_loss(logits.squeeze(-1), labels)

    def metrics(self, answers: np.ndarray, references: np.ndarray) -> dict[str, float]:
        """Score logits `(rows, classes)`.

        Classes: accuracy and macro F1. Several labels at once: the share of labels that are right, and F1 over all of
        them (micro) and over labels (macro). A number: Pearson's and Spearman's correlation and the mean squared error.
        """
        from hfcompress.tasks.scores import classification, correlation, multi_label

        if references.ndim == 2:
            return multi_label(answers, references)
        return classification(answers, references) if answers.shape[1] > 1 else correlation(answers, references)

    def row_scores(self, answers: np.ndarray, references: np.ndarray) -> np.ndarray | None:
        """Score each row: 0 or 1 for a class, the share of right labels for several, nothing for numbers."""
        if references.ndim == 2:
            return ((answers > 0) == (references > 0.5)).mean(axis=-1)
        return is_right(answers, references) if answers.shape[1] > 1 else None

    def main_of(self, metrics: Mapping[str, float]) -> str:
        """Return the metric that tables show: accuracy, or Spearman's correlation of numbers."""
        return "accuracy" if "accuracy" in metrics else "spearman"


def is_right(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Say of each row whether the class with the highest logit is its label, as 0 or 1: the rows' share of accuracy."""
    return (logits.argmax(axis=-1) == labels).astype(float)


def _kind_of(rows: Dataset, model_names: tuple[str, ...] | None) -> str | None:
    """Say what kind of labels there are: lists, numbers (also whole ones for a model of one output), classes (None)."""
    if holds_lists(rows["labels"]):
        return MULTI_LABEL
    one_output = model_names is not None and len(model_names) == 1
    return REGRESSION if one_output or holds_numbers(rows["labels"]) else None


def _check_outputs(model_names: tuple[str, ...] | None) -> None:
    """Refuse a classifier for a regression."""
    if model_names is not None and len(model_names) != 1:
        theirs = f"the model was trained with {len(model_names)} labels ({some(model_names)})"
        fix = "Use data with the model's labels, or start from a checkpoint without a trained head."
        raise DataError(Fault("labels", f"the labels are numbers (a regression), {theirs}.", fix))


TASK = TextClassification(
    name="text-classification",
    sample='"A warm, funny, quietly moving film."',
    auto_model="AutoModelForSequenceClassification",
    ort_model="ORTModelForSequenceClassification",
    heads=("ForSequenceClassification",),
    columns=(
        Column("text", ("text", "sentence", "content", "review", "sentence1", "premise", "question", "title")),
        Column("text_pair", required=False),
        Column("labels", ("label", "labels", "target", "class", "category")),
    ),
    main_metric="accuracy",
    names_labels=True,
    foreign_teachers=True,
)
