"""What the rows are like: how many, which labels, how long; for the record and the model card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hfcompress.tasks.base import IGNORED, Task

if TYPE_CHECKING:
    from datasets import Dataset


def row_statistics(
    rows: Dataset, task: Task, processor: Any, max_length: int | None, label_names: Sequence[str]
) -> dict[str, Any]:
    """Describe rows.

    Args:
        rows: Our columns.
        task: Knows how they are read.
        processor: The model's tokenizer or image processor.
        max_length: Texts are cut to so many tokens; None means the tokenizer's limit.
        label_names: Name by label number; empty where labels have no names.

    Returns:
        `rows`; `labels`, how often each stands there (each tag, for tokens), where they have names; `length` in tokens
        (`median`, `p95`, `max`, and `full`: how many entries are as long as is allowed, so perhaps cut), for texts.
    """
    found: dict[str, Any] = {"rows": len(rows)}
    if label_names and "labels" in rows.column_names:
        found["labels"] = count_labels(rows["labels"], label_names)
    if task.processor == "tokenizer":
        lengths = np.array([len(ids) for ids in task.encode(rows, processor, max_length)["input_ids"]])
        limit = min(max_length or processor.model_max_length, processor.model_max_length)
        found["length"] = {
            "median": float(np.median(lengths)),
            "p95": float(np.percentile(lengths, 95)),
            "max": int(lengths.max()),
            "full": int((lengths >= limit).sum()),
        }
    return found


def count_labels(labels: Sequence[Any], names: Sequence[str]) -> dict[str, int]:
    """Count labels by name: a number each, several at once (0 or 1 for each name), or one a token.

    Example:
        >>> count_labels([1, 0, 1], ["negative", "positive"])
        {'negative': 1, 'positive': 2}
    """
    if len(labels) and isinstance(labels[0], Sequence):
        if isinstance(labels[0][0] if labels[0] else 0, float):
            several = np.asarray(labels) > 0.5
            return {name: int(count) for name, count in zip(names, several.sum(axis=0), strict=True)}
        labels = [label for row in labels for label in row]
    counts = Counter(label for label in labels if label != IGNORED)
    return {name: counts[number] for number, name in enumerate(names)}
