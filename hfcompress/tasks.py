"""One row a task: which classes load it, how it is scored, how its batches are put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hfcompress.errors import Fault, ModelError, RequestError, unknown

if TYPE_CHECKING:
    import numpy as np
    from transformers import PretrainedConfig

    Metrics = Callable[[np.ndarray, np.ndarray], Mapping[str, float]]
    RowScores = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Task:
    """What the package knows of a task.

    Args:
        name: The Hub's pipeline tag, which is also what users type.
        auto_model: The transformers auto class.
        ort_model: Optimum's ONNX Runtime class.
        head: How the model classes of this task end.
        metrics: Scores `(predictions (rows, classes), labels (rows,))`.
        main_metric: The metric that tables show and comparisons use; higher is better, at most 1.
        row_scores: Scores each row, `(rows,)`, so that their mean is the main metric; intervals are drawn from them.
    """

    name: str
    auto_model: str
    ort_model: str
    head: str
    metrics: Metrics
    main_metric: str
    row_scores: RowScores


def classification_metrics(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Score logits `(rows, classes)` against labels `(rows,)`: accuracy and macro-averaged F1."""
    from sklearn.metrics import accuracy_score, f1_score

    predicted = logits.argmax(axis=-1)
    return {
        "accuracy": float(accuracy_score(labels, predicted)),
        "f1_macro": float(f1_score(labels, predicted, average="macro", zero_division=0.0)),
    }


def is_right(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Say of each row whether the class with the highest logit is its label, as 0 or 1: the rows' share of accuracy."""
    return (logits.argmax(axis=-1) == labels).astype(float)


TASKS = {
    "text-classification": Task(
        name="text-classification",
        auto_model="AutoModelForSequenceClassification",
        ort_model="ORTModelForSequenceClassification",
        head="ForSequenceClassification",
        metrics=classification_metrics,
        main_metric="accuracy",
        row_scores=is_right,
    ),
}
"""Row by name."""


def find_task(name: str) -> Task:
    """Return a task's row.

    Raises:
        RequestError: There is none of that name; the nearest is offered.
    """
    if name not in TASKS:
        raise RequestError(unknown("task", name, TASKS, "task"))
    return TASKS[name]


def task_of_class(class_name: str) -> Task | None:
    """Return the task of a model class such as `BertForSequenceClassification`, or None."""
    return next((task for task in TASKS.values() if class_name.endswith(task.head)), None)


def task_of_config(config: PretrainedConfig, source: str) -> Task:
    """Return the task that a checkpoint's architecture says.

    A checkpoint without a task head (`BertModel`, `BertForMaskedLM`) is taken for text classification only when it says
    nothing else of itself that the package knows.

    Raises:
        ModelError: Its head belongs to a task that the package does not know.
    """
    names = config.architectures or []
    for name in names:
        task = task_of_class(name)
        if task is not None:
            return task
    if all(_is_encoder(name) for name in names):
        return TASKS["text-classification"]
    fix = f"Pass --task; allowed: {', '.join(TASKS)}."
    raise ModelError(Fault(source, f"is a {names[0]}, a task that hfcompress does not know.", fix))


def _is_encoder(class_name: str) -> bool:
    """Say whether a class is an encoder as it was pretrained, without a task of its own."""
    plain = class_name.endswith("Model") and not class_name.endswith(("LMHeadModel", "LMModel"))
    return plain or class_name.endswith(("ForMaskedLM", "ForPreTraining"))


def trained_labels(config: PretrainedConfig, task: Task) -> tuple[str, ...] | None:
    """Return the label names of a checkpoint in order of their ids, or None when its task head was never trained."""
    if not any(name.endswith(task.head) for name in config.architectures or []):
        return None
    return label_names(config)


def label_names(config: PretrainedConfig) -> tuple[str, ...]:
    """Return a config's label names in order of their ids."""
    names: dict[int, str] = dict(config.id2label or {})
    return tuple(str(names[index]) for index in range(config.num_labels))


def are_default_labels(names: tuple[str, ...]) -> bool:
    """Say whether label names are transformers' own `LABEL_0, LABEL_1, …`, which name nothing."""
    return all(name == f"LABEL_{index}" for index, name in enumerate(names))
