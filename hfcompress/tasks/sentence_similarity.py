"""Sentence similarity: texts become embeddings whose cosine says how alike they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hfcompress.errors import DataError, Fault
from hfcompress.label_kinds import encode_numbers, holds_lists, holds_numbers
from hfcompress.labels import with_labels
from hfcompress.tasks.base import Column, Labelled, LabelOptions, Task
from hfcompress.tasks.text import TextCollator, tokenize_texts

if TYPE_CHECKING:
    import numpy as np
    import torch
    from datasets import Dataset
    from transformers.utils.generic import ModelOutput

    from hfcompress.tasks.base import Collator

_NEEDS = (
    "Name a second text and a score (--text-pair-column, --label-column) to score the cosine of pairs, or a class "
    "(--label-column) to score whether the nearest text is of the same class."
)


def mean_pool(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Average the hidden states of the real tokens: sentence-transformers' default pooling.

    Args:
        hidden: `(batch, seq, hidden)`, usually of the last layer.
        mask: `(batch, seq)`, 1 at real tokens.

    Returns:
        One embedding a text, `(batch, hidden)`; zeros for a text without tokens.
    """
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


class SentenceSimilarity(Task):
    """An embedding a text, the mean over its real tokens.

    Of pairs with a score, the cosine is scored; of single texts with a class, whether the nearest other one has it too.
    """

    def encode_labels(self, parts: dict[str, Dataset], options: LabelOptions) -> Labelled:
        """Turn the scores of pairs into numbers and the classes of single texts too; training needs neither.

        Raises:
            DataError: There is nothing to evaluate against, or labels are missing or of the wrong kind.
        """
        rows = next(iter(parts.values()))
        if "labels" not in rows.column_names:
            if "training" not in parts:
                raise DataError(Fault("labels", "there is nothing to score embeddings against.", _NEEDS))
            return Labelled(parts)
        if "text_pair" in rows.column_names:
            return Labelled(encode_numbers(parts))
        return Labelled(_encode_classes(parts))

    def encode(self, rows: Dataset, processor: Any, max_length: int | None) -> Dataset:
        """Tokenize each text on its own; a pair gives two entries one after the other, with the same `row`."""
        texts = [name for name in ("text", "text_pair") if name in rows.column_names]

        def tokenize(batch: dict[str, list[Any]], indices: list[int]) -> dict[str, Any]:
            each = [batch[name][place] for place in range(len(indices)) for name in texts]
            row = [index for index in indices for _ in texts]
            return {**tokenize_texts(processor, {"text": each}, max_length), "row": row}

        return rows.map(tokenize, batched=True, with_indices=True, remove_columns=rows.column_names, desc="tokenizing")

    def collator(self, processor: Any) -> Collator:
        """Pad with the tokenizer; which row an entry belongs to is no business of the model's."""
        pad = TextCollator(processor)
        return lambda entries: pad([{name: entry[name] for name in entry if name != "row"} for entry in entries])

    def stratify(self, rows: Dataset) -> list[str] | None:
        """Return the classes of single texts; scores of pairs are not stratified."""
        if "labels" not in rows.column_names or "text_pair" in rows.column_names:
            return None
        return [str(label) for label in rows["labels"]]

    def answers(self, outputs: ModelOutput, batch: Mapping[str, Any]) -> np.ndarray:
        """Return the embedding of each text, `(batch, hidden)`."""
        return mean_pool(outputs["last_hidden_state"].float(), batch["attention_mask"]).cpu().numpy()

    def finish(self, answers: list[np.ndarray], encoded: Dataset, rows: Dataset, processor: Any) -> np.ndarray:
        """Return the cosine of each pair, `(rows, 1)`, or the embedding of each text, `(rows, hidden)`."""
        import numpy as np

        embeddings = np.stack(answers)
        if "text_pair" not in rows.column_names:
            return embeddings
        unit = _unit(embeddings)
        return (unit[::2] * unit[1::2]).sum(axis=-1, keepdims=True)

    def references(self, rows: Dataset) -> np.ndarray:
        """Return the scores or classes.

        Raises:
            DataError: There are none.
        """
        if "labels" not in rows.column_names:
            raise DataError(Fault("labels", "there is nothing to score embeddings against.", _NEEDS))
        return super().references(rows)

    def metrics(self, answers: np.ndarray, references: np.ndarray) -> dict[str, float]:
        """Score cosines of pairs by both correlations, or embeddings by their nearest neighbours."""
        if answers.shape[1] > 1:
            return {"nearest_neighbour_accuracy": float(_nearest_is_alike(answers, references).mean())}
        from hfcompress.tasks.scores import correlation

        found = correlation(answers, references)
        return {name: found[name] for name in ("spearman", "pearson")}

    def row_scores(self, answers: np.ndarray, references: np.ndarray) -> np.ndarray | None:
        """Score each text by its neighbour, found once: a resample would find copies. A correlation is no mean."""
        return _nearest_is_alike(answers, references) if answers.shape[1] > 1 else None

    def main_of(self, metrics: Mapping[str, float]) -> str:
        """Return the metric that tables show: Spearman's correlation, or the accuracy of the nearest neighbour."""
        return "spearman" if "spearman" in metrics else "nearest_neighbour_accuracy"

    def for_metric(self, answers: np.ndarray, references: np.ndarray) -> tuple[list[Any], list[Any]]:
        """Return cosines and scores, or for each text the class of its nearest neighbour and its own."""
        if answers.shape[1] > 1:
            return references[_nearest(answers)].tolist(), references.tolist()
        return answers[:, 0].tolist(), references.tolist()


def _unit(embeddings: np.ndarray) -> np.ndarray:
    """Scale rows to length 1; zeros stay."""
    import numpy as np

    lengths = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    return embeddings / np.where(lengths > 0, lengths, 1)


def _nearest(embeddings: np.ndarray, at_once: int = 1024) -> np.ndarray:
    """Return which other row is nearest by cosine, `(rows,)`."""
    import numpy as np

    unit = _unit(embeddings)
    found = np.zeros(len(unit), dtype=int)
    for start in range(0, len(unit), at_once):
        cosines = unit[start : start + at_once] @ unit.T
        here = np.arange(len(cosines))
        cosines[here, start + here] = -np.inf
        found[start : start + at_once] = cosines.argmax(axis=-1)
    return found


def _nearest_is_alike(embeddings: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Say of each row whether the nearest other one has its class, as 0 or 1; a single row has no neighbour."""
    alike = (classes[_nearest(embeddings)] == classes).astype(float)
    return alike if len(classes) > 1 else alike * 0


def _encode_classes(parts: dict[str, Dataset]) -> dict[str, Dataset]:
    """Number the classes of single texts alike in all parts: only whether two are equal counts.

    Raises:
        DataError: A text has no class, or lists or scores stand where a class should.
    """
    faults = []
    for part, rows in parts.items():
        values = rows["labels"]
        missing = [index for index, value in enumerate(values) if value in (None, "") or value != value]
        if missing:
            problem = f"{len(missing)} {part} rows have no label (the first is row {missing[0]}, from 0)."
            faults.append(Fault("labels", problem))
        elif holds_lists(values) or holds_numbers(values):
            problem = f"the {part} rows have scores or lists, but single texts: those are scored by their class."
            faults.append(Fault("labels", problem, "Name the second text with --text-pair-column."))
    if faults:
        raise DataError(*faults)
    names = sorted({str(value) for rows in parts.values() for value in rows["labels"]})
    number = {name: index for index, name in enumerate(names)}
    return {part: with_labels(rows, [number[str(value)] for value in rows["labels"]]) for part, rows in parts.items()}


TASK = SentenceSimilarity(
    name="sentence-similarity",
    auto_model="AutoModel",
    ort_model="ORTModelForFeatureExtraction",
    heads=("Model",),
    columns=(
        Column("text", ("text", "sentence", "sentence1", "sentence_A", "sentence_a", "text1", "content", "question1")),
        Column("text_pair", ("sentence2", "sentence_B", "sentence_b", "text2", "question2"), required=False),
        Column(
            "labels",
            ("score", "similarity_score", "similarity", "relatedness_score", "label", "labels", "class", "category"),
            required=False,
        ),
    ),
    main_metric="spearman",
    default_loss="embedding_mse",
    has_task_loss=False,
    foreign_teachers=True,
)
