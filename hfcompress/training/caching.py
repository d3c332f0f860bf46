"""`cache_teacher`: keep a teacher's answers to a training set, to train any number of students from them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfcompress.data import TEACHER_PREFIX
from hfcompress.errors import Fault, TeacherError
from hfcompress.modeling.load import load_config, load_model, load_processor
from hfcompress.tasks import Task, task_of_class, task_of_config
from hfcompress.training.cache_building import Job, Watch, build
from hfcompress.training.cache_identity import CacheIdentity, model_sha256, tokenization_sha256
from hfcompress.training.cache_plan import CacheSettings
from hfcompress.training.objective import DEFAULT_LOSSES, ModelPair, build_objective, parse_losses
from hfcompress.training.teacher import CACHE_COLUMN, ROW_MASK, ModelTeacher
from hfcompress.training.teacher_checks import UNTRAINED, is_untrained

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel

    from hfcompress.tasks.base import Collator


def cache_teacher(
    teacher: PreTrainedModel | str,
    train_dataset: Dataset,
    folder: str | Path,
    *,
    processor: Any = None,
    collator: Collator | None = None,
    losses: Mapping[str, Any] | str | None = None,
    batch_size: int = 32,
    top_k: int | None = None,
    progress: bool = False,
) -> Path:
    """Compute a teacher's answers to a training set once; called again it goes on where it was stopped.

    Students are then trained from the folder, on all of these examples or some, in any order:
    `CompressionTrainer(student, args, teacher=folder, train_dataset=train_dataset)`.

    Args:
        teacher: A model, or a Hub id, folder or short name of one.
        train_dataset: Encoded examples. Columns that start with `teacher_` are the teacher's, where it reads
            others than the student.
        folder: The cache.
        processor: The teacher's tokenizer or image processor (default: the one beside a teacher that is named).
        collator: Pads a batch (default: the task's, with the processor).
        losses: What students will be trained on: it says what of the answers is kept. Logits always are; of losses on
            hidden states all of these are, so that students of any depth find theirs.
        batch_size: Examples that the teacher answers at once.
        top_k: Keep the logits of the likeliest classes and the mass of the rest (default: 32 of more than 1,000,
            else all).
        progress: Whether a progress bar is shown.

    Returns:
        The folder.

    Raises:
        TeacherError: The teacher's head was never trained, the folder holds other answers, or losses cannot be cached.
        RequestError: The losses are not losses.
        DiskSpaceError: The disk lacks room.
    """
    model, task, processor = _load(teacher, processor)
    if task.has_task_loss and is_untrained(model):
        raise TeacherError(UNTRAINED)
    model.eval()
    objective = build_objective(parse_losses(losses or DEFAULT_LOSSES), ModelPair(model.config, model.config))
    columns = frozenset(inspect.signature(model.forward).parameters) - set(task.label_columns)
    names = train_dataset.column_names
    foreign = any(name.startswith(TEACHER_PREFIX) for name in names)
    read = {*columns, *task.label_columns, *(TEACHER_PREFIX + name for name in columns), ROW_MASK} - {CACHE_COLUMN}
    job = Job(
        ModelTeacher(model, task, columns, None, shares_tokens=not foreign),
        train_dataset.select_columns([name for name in names if name in read]),
        collator or _collator(task, processor, foreign),
        objective,
        CacheIdentity(model_sha256(model), tokenization=tokenization_sha256(processor)),
        CacheSettings(batch_size, top_k),
        Watch(progress=progress),
        every_layer=True,
    )
    build(job, Path(folder))
    return Path(folder)


def _load(teacher: PreTrainedModel | str, processor: Any) -> tuple[PreTrainedModel, Task, Any]:
    if not isinstance(teacher, str):
        return teacher, task_of_class(type(teacher).__name__) or Task(names_labels=True), processor
    task = task_of_config(load_config(teacher), teacher)
    return load_model(teacher, task), task, processor or load_processor(teacher, task)


def _collator(task: Task, processor: Any, foreign: bool) -> Collator:
    """Return the task's collator.

    Raises:
        TeacherError: What it needs is not known.
    """
    if foreign or processor is None or not task.name:
        problem = "which batches the teacher reads is not known."
        fix = "Pass collator=, the one that students are trained with" + ("." if foreign else ", or processor=.")
        raise TeacherError(Fault("collator", problem, fix))
    return task.collator(processor)
