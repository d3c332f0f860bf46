"""The teacher: loaded, checked against the student, and asked without leaving a trace in training."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hfcompress.data import TEACHER_PREFIX
from hfcompress.errors import Fault, TeacherError
from hfcompress.labels import match_labels
from hfcompress.modeling.load import load_model, load_tokenizer
from hfcompress.tasks import are_default_labels, label_names, task_of_class

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from transformers.utils.generic import ModelOutput


UNTRAINED = Fault(
    "teacher",
    "its head was never trained for this task, so it would teach noise.",
    "Fine-tune it first (--finetune-teacher, or a finetune step before), or choose a fine-tuned model.",
)
"""What is wrong with a teacher whose head is as it was initialised."""


@dataclass
class Teacher:
    """A checked teacher.

    Args:
        model: In evaluation mode.
        columns: What its forward pass takes, labels left out.
        label_order: Where each of the student's labels stands among the teacher's; None when the orders agree.
        shares_tokens: Whether it reads the student's tokens; otherwise columns that start with `teacher_` are its own.
    """

    model: PreTrainedModel
    columns: frozenset[str]
    label_order: Tensor | None
    shares_tokens: bool

    @torch.no_grad()
    def ask(self, batch: Mapping[str, Any], output_hidden_states: bool) -> ModelOutput:
        """Run the teacher on a batch: in evaluation mode, without gradients, without the labels."""
        self.model.eval()
        prefix = "" if self.shares_tokens else TEACHER_PREFIX
        own = {name.removeprefix(prefix): value for name, value in batch.items() if name.startswith(prefix)}
        inputs = {name: value for name, value in own.items() if name in self.columns}
        outputs = self.model(**inputs, output_hidden_states=output_hidden_states, return_dict=True)
        if self.label_order is not None:
            outputs["logits"] = outputs["logits"][..., self.label_order.to(outputs["logits"].device)]
        return outputs


def load_teacher(source: str, student: PreTrainedModel) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the teacher of a student, with the same task, and its tokenizer.

    Raises:
        TeacherError: The student's class says no task that the package knows.
        ModelError: The source is not a usable model.
        NetworkError: It would have to come from the Hub, which cannot be reached.
    """
    task = task_of_class(type(student).__name__)
    if task is None:
        problem = f"cannot be loaded for a {type(student).__name__}, a task that hfcompress does not know."
        raise TeacherError(Fault(source, problem, "Load it yourself and pass the model."))
    return load_model(source, task), load_tokenizer(source)


def check_teacher(
    teacher: PreTrainedModel,
    student: PreTrainedModel,
    teacher_tokenizer: PreTrainedTokenizerBase | None = None,
    student_tokenizer: PreTrainedTokenizerBase | None = None,
) -> Teacher:
    """Check that a teacher can teach a student.

    Args:
        teacher: A model with a trained head.
        student: The model to train.
        teacher_tokenizer: Compared with the student's when both are given, else the vocabulary sizes are.
        student_tokenizer: The student's tokenizer.

    Raises:
        TeacherError: It is the student itself, its head was never trained, or its labels are others; all faults.
    """
    if teacher is student:
        raise TeacherError(Fault("teacher", "is the student itself.", "Pass another model, or a copy."))
    faults = []
    if is_untrained(teacher):
        faults.append(UNTRAINED)
    label_order = None
    try:
        label_order = _label_order(teacher, student)
    except TeacherError as error:
        faults += error.faults
    if faults:
        raise TeacherError(*faults)
    teacher.eval()
    columns = frozenset(inspect.signature(teacher.forward).parameters) - {"labels"}
    shares_tokens = _same_tokens(teacher, student, teacher_tokenizer, student_tokenizer)
    return Teacher(teacher, columns, label_order, shares_tokens)


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
    teacher_tokenizer: PreTrainedTokenizerBase | None,
    student_tokenizer: PreTrainedTokenizerBase | None,
) -> bool:
    if teacher_tokenizer is not None and student_tokenizer is not None:
        return same_vocabulary(teacher_tokenizer, student_tokenizer)
    return getattr(teacher.config, "vocab_size", None) == getattr(student.config, "vocab_size", None)


def _label_order(teacher: PreTrainedModel, student: PreTrainedModel) -> Tensor | None:
    """Find where each of the student's labels stands among the teacher's.

    Raises:
        TeacherError: The numbers of labels differ, or their names do.
    """
    if teacher.config.num_labels != student.config.num_labels:
        problem = f"has {teacher.config.num_labels} labels, the student {student.config.num_labels}."
        raise TeacherError(Fault("teacher", problem, "Give the student the teacher's `num_labels`."))
    ours, theirs = label_names(student.config), label_names(teacher.config)
    if are_default_labels(ours) or are_default_labels(theirs):
        return None
    positions = match_labels(ours, theirs)
    if positions is None:
        problem = f"its labels ({', '.join(theirs)}) are not the student's ({', '.join(ours)})."
        raise TeacherError(Fault("teacher", problem, "Set both configs' `id2label` to the same names."))
    return None if positions == list(range(len(positions))) else torch.tensor(positions)
