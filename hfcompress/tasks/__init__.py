"""Tasks: one file a task. A new one is a new file here and its test."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from hfcompress.errors import Fault, ModelError, RequestError, unknown
from hfcompress.labels import are_default_labels, label_names
from hfcompress.tasks.base import Task

if TYPE_CHECKING:
    from transformers import PretrainedConfig

__all__ = [
    "TASKS", "Task", "are_default_labels", "find_task", "is_trained", "label_names", "task_of_class", "task_of_config",
    "trained_labels",
]  # fmt: skip


def _discover() -> dict[str, Task]:
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    found = [module.TASK for module in modules if hasattr(module, "TASK")]
    return {task.name: task for task in found}


TASKS = _discover()
"""Task by name."""


def find_task(name: str) -> Task:
    """Return a task by its name.

    Raises:
        RequestError: There is none of that name; the nearest is offered.
    """
    if name not in TASKS:
        raise RequestError(unknown("task", name, TASKS, "task"))
    return TASKS[name]


def task_of_class(class_name: str) -> Task | None:
    """Return the task of a model class such as `BertForSequenceClassification`, or None.

    A model without a head (`BertModel`) gives embeddings.
    """
    return next((task for task in TASKS.values() if _has_head(class_name, task)), None)


def _has_head(class_name: str, task: Task) -> bool:
    """Say whether a model class is one of a task: `GPT2LMHeadModel` ends with `Model`, but is no plain one."""
    return class_name.endswith(task.heads) and (task.auto_model != "AutoModel" or _is_plain(class_name))


def task_of_config(config: PretrainedConfig, source: str) -> Task:
    """Return the task that a checkpoint's architecture says.

    An encoder as it was pretrained (`BertModel`, `BertForMaskedLM`) is taken for text classification, or image
    classification if it reads images: nearly always a head for that is what it is to get. For anything else the user
    names the task.

    Raises:
        ModelError: Its head belongs to a task that the package does not know.
    """
    names = config.architectures or []
    heads = [name for name in names if not _is_encoder(name)]
    if heads:
        task = next((task for task in map(task_of_class, heads) if task is not None), None)
        if task is not None:
            return task
        fix = f"Pass --task; allowed: {', '.join(TASKS)}."
        raise ModelError(Fault(source, f"is a {heads[0]}, a task that hfcompress does not know.", fix))
    return TASKS["image-classification" if _reads_images(config) else "text-classification"]


def _reads_images(config: PretrainedConfig) -> bool:
    from transformers.models.auto import modeling_auto

    images = modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES
    texts = modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    return config.model_type in images and config.model_type not in texts


def _is_encoder(class_name: str) -> bool:
    """Say whether a class is an encoder as it was pretrained, without a task of its own."""
    return _is_plain(class_name) or class_name.endswith(("ForMaskedLM", "ForPreTraining", "ForMaskedImageModeling"))


def _is_plain(class_name: str) -> bool:
    """Say whether a class has no head: `BertModel`, but not `GPT2LMHeadModel` or `GPT2DoubleHeadsModel`."""
    return class_name.endswith("Model") and not class_name.endswith(("HeadModel", "HeadsModel", "LMModel"))


def is_trained(config: PretrainedConfig, task: Task) -> bool:
    """Say whether a checkpoint's head was trained for a task; a task without a head takes any checkpoint."""
    names = config.architectures or []
    return bool(names) and (task.auto_model == "AutoModel" or any(_has_head(name, task) for name in names))


def trained_labels(config: PretrainedConfig, task: Task) -> tuple[str, ...] | None:
    """Return the label names of a checkpoint in order of their ids, or None when its task head was never trained."""
    if not is_trained(config, task):
        return None
    return label_names(config) if task.names_labels else ()
