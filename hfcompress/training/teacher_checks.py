"""What makes a model fit to teach another: a trained head, the same labels, and the same tokens or not."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hfcompress.errors import Fault, TeacherError
from hfcompress.labels import are_default_labels, label_names, match_labels
from hfcompress.tasks import Task, task_of_class
from hfcompress.training.teacher import ModelTeacher

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


UNTRAINED = Fault(
    "teacher",
    "its head was never trained for this task, so it would teach noise.",
    "Choose a fine-tuned model, or fine-tune it first: a recipe with a finetune step before does that, and so does "
    "`hfcompress distill` with --finetune-teacher.",
)
"""What is wrong with a teacher whose head is as it was initialised."""


def check_teacher(
    teacher: PreTrainedModel,
    student: PreTrainedModel,
    teacher_tokenizer: Any = None,
    student_tokenizer: Any = None,
    task: Task | None = None,
) -> ModelTeacher:
    """Check that a teacher can teach a student.

    Args:
        teacher: A model with a trained head.
        student: The model to train.
        teacher_tokenizer: Compared with the student's when both are given, else the vocabulary sizes are.
        student_tokenizer: The student's tokenizer.
        task: What both are for (default: what the student's class says).

    Raises:
        TeacherError: It is the student itself, its head was never trained, or its labels are others; all faults.
    """
    if teacher is student:
        raise TeacherError(Fault("teacher", "is the student itself.", "Pass another model, or a copy."))
    task = task or task_of_class(type(student).__name__) or Task(names_labels=True)
    faults = []
    if task.has_task_loss and is_untrained(teacher):
        faults.append(UNTRAINED)
    order = None
    try:
        order = label_order(teacher.config, student.config) if task.names_labels else None
    except TeacherError as error:
        faults += error.faults
    if faults:
        raise TeacherError(*faults)
    teacher.eval()
    columns = frozenset(inspect.signature(teacher.forward).parameters) - set(task.label_columns)
    shares_tokens = _same_tokens(teacher, student, teacher_tokenizer, student_tokenizer)
    return ModelTeacher(teacher, task, columns, order, shares_tokens)


def is_untrained(model: PreTrainedModel) -> bool:
    """Say whether a classifier's last layer is as it was initialised: its bias is exactly zero.

    transformers initialises it so when a checkpoint has no head for the task, and no training leaves it so.
    """
    classes = getattr(model.config, "num_labels", None)
    heads = [
        m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == classes and m.bias is not None
    ]
    return bool(heads) and not heads[-1].bias.any()


def same_vocabulary(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    """Say whether two tokenizers give each token the same number; the same size alone says nothing."""
    return one.get_vocab() == other.get_vocab()


def _same_tokens(
    teacher: PreTrainedModel,
    student: PreTrainedModel,
    teacher_tokenizer: Any,
    student_tokenizer: Any,
) -> bool:
    if hasattr(teacher_tokenizer, "get_vocab") and hasattr(student_tokenizer, "get_vocab"):
        return same_vocabulary(teacher_tokenizer, student_tokenizer)
    return getattr(teacher.config, "vocab_size", None) == getattr(student.config, "vocab_size", None)


def label_order(teacher: PretrainedConfig, student: PretrainedConfig) -> Tensor | None:
    """Find where each of the student's labels stands among the teacher's.

    Raises:
        TeacherError: The numbers of labels differ, or their names do.
    """
    if teacher.num_labels != student.num_labels:
        problem = f"has {teacher.num_labels} labels, the student {student.num_labels}."
        raise TeacherError(Fault("teacher", problem, "Give the student the teacher's `num_labels`."))
    ours, theirs = label_names(student), label_names(teacher)
    if are_default_labels(ours) or are_default_labels(theirs):
        return None
    positions = match_labels(ours, theirs)
    if positions is None:
        problem = f"its labels ({', '.join(theirs)}) are not the student's ({', '.join(ours)})."
        raise TeacherError(Fault("teacher", problem, "Set both configs' `id2label` to the same names."))
    return None if positions == list(range(len(positions))) else torch.tensor(positions)
