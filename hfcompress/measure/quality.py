"""Quality: the task's metrics on held-out data, with bootstrap intervals."""

from __future__ import annotations

import inspect
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.stats import bootstrap
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from hfcompress.data import tokenize
from hfcompress.tasks import Task
from hfcompress.training.collator import PairedCollator

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_RESAMPLES = 9999


@dataclass(frozen=True)
class Quality:
    """What a model scores.

    Args:
        metrics: Value by metric name.
        main: The metric that tables show.
        interval: 95 % bootstrap interval of the main metric.
        rows: Number of rows it was measured on.
    """

    metrics: dict[str, float]
    main: str
    interval: tuple[float, float]
    rows: int

    @property
    def value(self) -> float:
        """The main metric."""
        return self.metrics[self.main]

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


@torch.inference_mode()
def predict(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Dataset,
    max_length: int | None,
    batch_size: int = 64,
    progress: bool = False,
) -> np.ndarray:
    """Return the model's logits `(rows, classes)` for rows with text, in their order.

    Rows are batched by length, which saves most of the padding.
    """
    encoded = tokenize(rows, tokenizer, max_length).remove_columns("labels")
    takes = set(_forward_names(model)) & set(encoded.column_names)
    order = np.argsort([-len(ids) for ids in encoded["input_ids"]], kind="stable")
    ordered = encoded.select(order).select_columns(sorted(takes))
    loader = DataLoader(ordered, batch_size, collate_fn=PairedCollator(tokenizer))
    model.eval()
    logits = [
        model(**{name: value.to(model.device) for name, value in batch.items()}).logits.float().cpu().numpy()
        for batch in tqdm(loader, desc="evaluate", unit="batch", disable=not progress, leave=False)
    ]
    result = np.concatenate(logits)
    result[order] = result.copy()
    return result


def score(logits: np.ndarray, labels: np.ndarray, task: Task, seed: int = 0) -> Quality:
    """Score logits `(rows, classes)` against labels `(rows,)`, with a 95 % percentile bootstrap interval."""
    interval = _interval(task.row_scores(logits, labels), seed)
    return Quality(dict(task.metrics(logits, labels)), task.main_metric, interval, len(labels))


def difference(
    one: np.ndarray, other: np.ndarray, labels: np.ndarray, task: Task, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of `other` minus `one` in the main metric, both on the same resampled rows."""
    return _interval(task.row_scores(other, labels) - task.row_scores(one, labels), seed)


def _interval(row_scores: np.ndarray, seed: int) -> tuple[float, float]:
    if len(row_scores) < 2 or np.ptp(row_scores) == 0:
        mean = float(row_scores.mean())
        return mean, mean
    found = bootstrap(
        (row_scores,), np.mean, n_resamples=_RESAMPLES, method="percentile", random_state=np.random.default_rng(seed)
    ).confidence_interval
    return float(found.low), float(found.high)


def _forward_names(model: PreTrainedModel) -> list[str]:
    return list(inspect.signature(model.forward).parameters)
