"""Quality: the task's metrics on held-out data, with bootstrap intervals."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.stats import bootstrap
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from hfcompress.data import row_lengths
from hfcompress.errors import Fault, RequestError
from hfcompress.measure.hub_metrics import compute
from hfcompress.measure.runnable import Runnable, inputs_of
from hfcompress.tasks import Task

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

_RESAMPLES = 9999
_FEWER_RESAMPLES = 999


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


@dataclass(frozen=True)
class More:
    """What is scored beside the task's own metrics.

    Args:
        metrics: Metrics of the `evaluate` library.
        generate: Whether models that write texts write them, to be scored too.
    """

    metrics: Sequence[str] = ()
    generate: bool = False

    def check(self, task: Task) -> None:
        """Look whether a task's models write.

        Raises:
            RequestError: They are to, and do not.
        """
        if self.generate and not task.writes:
            raise RequestError(Fault("generate", f"goes with models that write texts, not with {task.name}."))


@torch.inference_mode()
def predict(
    model: Runnable,
    processor: Any,
    rows: Dataset,
    task: Task,
    max_length: int | None,
    batch_size: int = 64,
    progress: bool = False,
    generate: bool = False,
) -> np.ndarray:
    """Return what is kept of the model's answers, `(rows, numbers)`, in the order of the rows.

    Rows are batched by length, which saves most of the padding. With `generate` a model that writes texts writes them,
    and scores of these stand beside its answers.

    Raises:
        RequestError: It is to write, and cannot.
    """
    if generate and not hasattr(model, "generate"):
        raise RequestError(Fault("generate", "goes with PyTorch models, not with this ONNX file."))
    encoded = task.encode(rows, processor, max_length)
    order = np.argsort([-length for length in row_lengths(encoded, model.main_input_name)], kind="stable")
    loader = DataLoader(encoded.select(order), batch_size, collate_fn=task.collator(processor))
    takes = inputs_of(model) - set(task.label_columns)
    model.eval()
    answers = []
    for batch in tqdm(loader, desc="evaluate", unit="batch", disable=not progress, leave=False):
        batch = {name: value.to(model.device) for name, value in batch.items()}
        batch = task.prepare_inputs(batch, model.config)
        outputs: Any = model(**{name: value for name, value in batch.items() if name in takes})
        found = task.answers(outputs, batch)
        if generate:
            writer: Any = model
            found = np.concatenate([found, task.written(writer, batch, processor)], axis=1)
        answers += list(found)
    _warn_of_nan(answers)
    in_order = [answers[place] for place in np.argsort(order, kind="stable")]
    return task.finish(in_order, encoded, rows, processor)


def _warn_of_nan(answers: Sequence[np.ndarray]) -> None:
    """Warn where answers are no numbers: they are scored, for they are what the model gives."""
    wrong = sum(one.dtype.kind == "f" and not np.isfinite(one).all() for one in answers)
    if wrong:
        text = "%d of %d answers are NaN or infinite, so that their score says little: check the model's weights"
        logger.warning(text, wrong, len(answers))


def score(answers: np.ndarray, references: np.ndarray, task: Task, seed: int = 0) -> Quality:
    """Score answers `(rows, numbers)` against references, with a 95 % percentile bootstrap interval."""
    metrics = dict(task.metrics(answers, references))
    main = task.main_of(metrics)
    scores = task.row_scores(answers, references)
    if scores is not None:
        return Quality(metrics, main, _interval_of_mean(scores, seed), len(answers))
    return Quality(
        metrics, main, _interval(lambda rows: _main(answers, references, task, rows), len(answers), seed), len(answers)
    )


def difference(
    one: np.ndarray, other: np.ndarray, references: np.ndarray, task: Task, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of `other` minus `one` in the main metric, both on the same resampled rows."""
    ours, theirs = task.row_scores(one, references), task.row_scores(other, references)
    if ours is not None and theirs is not None:
        return _interval_of_mean(theirs - ours, seed)
    return _interval(
        lambda rows: _main(other, references, task, rows) - _main(one, references, task, rows), len(one), seed
    )


def judge(
    answers: np.ndarray,
    first: np.ndarray,
    references: np.ndarray,
    task: Task,
    seed: int = 0,
    metrics: Sequence[str] = (),
) -> dict[str, Any]:
    """Return a model's quality for JSON, with `difference_interval`, that of its difference from the first model's.

    Args:
        answers: The model's, `(rows, numbers)`.
        first: The first model's.
        references: What they are scored against.
        task: Knows its metrics.
        seed: Of the bootstrap.
        metrics: Metrics of the `evaluate` library that are asked for too.
    """
    quality = score(answers, references, task, seed).to_dict()
    own = list(quality["metrics"])
    for metric in metrics:
        quality["metrics"] |= compute(metric, *task.for_metric(answers, references), own=own)
    return {**quality, "difference_interval": list(difference(first, answers, references, task, seed))}


def _main(answers: np.ndarray, references: np.ndarray, task: Task, rows: np.ndarray) -> float:
    metrics = task.metrics(answers[rows], references[rows])
    return metrics[task.main_of(metrics)]


def _interval_of_mean(row_scores: np.ndarray, seed: int) -> tuple[float, float]:
    if len(row_scores) < 2 or np.ptp(row_scores) == 0:
        mean = float(row_scores.mean())
        return mean, mean
    found = bootstrap(
        (row_scores,), np.mean, n_resamples=_RESAMPLES, method="percentile", random_state=np.random.default_rng(seed)
    ).confidence_interval
    return float(found.low), float(found.high)


def _interval(statistic: Callable[[np.ndarray], float], rows: int, seed: int) -> tuple[float, float]:
    """Resample rows for a metric that is no mean of theirs; fewer times, since each resample is scored anew."""
    random = np.random.default_rng(seed)
    values = [statistic(random.integers(rows, size=rows)) for _ in range(_FEWER_RESAMPLES)]
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
