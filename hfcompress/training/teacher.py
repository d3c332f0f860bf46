"""The teacher: one model or several, asked without leaving a trace in training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hfcompress.data import TEACHER_PREFIX
from hfcompress.errors import Fault, TeacherError
from hfcompress.modeling.load import load_model, load_processor
from hfcompress.tasks import Task, task_of_class
from hfcompress.training.answers import Answer, EnsembleRows, Listener, use_eager_attention
from hfcompress.training.signals import Needs, Signals

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from hfcompress.training.objective import Objective

CACHE_COLUMN = "cache_row"
"""The column that says where in a cache the teacher's answer to an example stands."""

ROW_MASK = "row_mask"
"""The column that marks the tokens whose logits are compared."""


class Teacher(ABC):
    """Whatever answers in the teacher's place.

    Attributes:
        columns: The columns of a batch that it reads, named as its own model names them.
        shares_tokens: Whether it reads the student's tokens; otherwise columns that start with `teacher_` are its own.
        config: Of the model that answers, or answered.
    """

    columns: frozenset[str]
    shares_tokens: bool
    config: PretrainedConfig

    @abstractmethod
    def prepare(self, needs: Needs, deferred: bool) -> None:
        """Get ready to be asked.

        Args:
            needs: What is asked beside the logits.
            deferred: Whether logits are computed part by part.

        Raises:
            TeacherError: It cannot give what is asked.
        """

    def check(self, objective: Objective, task: Task) -> None:  # noqa: B027
        """Make sure that it can serve the losses; a model can serve all that fit it.

        Raises:
            TeacherError: It cannot; all reasons.
        """

    @abstractmethod
    def ask(self, batch: Mapping[str, Any]) -> Answer:
        """Answer a batch: in evaluation mode, without gradients, without the labels."""

    def to(self, device: torch.device) -> None:  # noqa: B027
        """Move to a device."""


@dataclass
class ModelTeacher(Teacher):
    """A checked model.

    Args:
        model: In evaluation mode.
        task: Says which logits are compared.
        columns: What its forward pass takes, labels left out.
        label_order: Where each of the student's labels stands among the teacher's; None when the orders agree.
        shares_tokens: Whether it reads the student's tokens.
    """

    model: PreTrainedModel
    task: Task
    columns: frozenset[str]
    label_order: Tensor | None
    shares_tokens: bool

    def __post_init__(self) -> None:
        """Listen for logits alone until told otherwise."""
        self.config = self.model.config
        self.listener = Listener(self.model, self.task, Needs())

    def prepare(self, needs: Needs, deferred: bool) -> None:
        """Listen for what is asked."""
        from hfcompress.training.heads import DeferredHead

        if needs.attentions:
            use_eager_attention(self.model)
        head = DeferredHead.of(self.model) if deferred else None
        self.listener = Listener(self.model, self.task, needs, head)

    def to(self, device: torch.device) -> None:
        """Move the model, unless it was placed on several devices."""
        if getattr(self.model, "hf_device_map", None) is None:
            self.model.to(device)  # type: ignore[arg-type]

    @torch.no_grad()
    def ask(self, batch: Mapping[str, Any]) -> Answer:
        """Run the model on its own columns of the batch."""
        self.model.eval()
        prefix = "" if self.shares_tokens else TEACHER_PREFIX
        shared = {name: value for name, value in batch.items() if name in self.task.label_columns or name == ROW_MASK}
        own = {name.removeprefix(prefix): value for name, value in batch.items() if name.startswith(prefix)}
        own = self.task.prepare_inputs({**own, **shared}, self.model.config)
        inputs = {name: value for name, value in own.items() if name in self.columns}
        with self.listener.listening():
            outputs = self.model(**inputs, **self.listener.options, return_dict=True)
        if self.label_order is not None:
            outputs["logits"] = outputs["logits"][..., self.label_order.to(outputs["logits"].device)]
        return self.listener.answer(outputs, own)


class Ensemble(Teacher):
    """Several teachers whose predictions are averaged in probability space.

    Args:
        teachers: Two or more.
        weights: One each, brought to a sum of 1; all alike when None.

    Raises:
        TeacherError: The weights do not go with the teachers, or the teachers read different tokens.
    """

    def __init__(self, teachers: Sequence[Teacher], weights: Sequence[float] | None = None) -> None:
        weights = list(weights) if weights is not None else [1.0] * len(teachers)
        if len(weights) != len(teachers) or min(weights) < 0 or sum(weights) <= 0:
            problem = f"takes one weight from 0 up for each of the {len(teachers)} teachers, got {weights}."
            raise TeacherError(Fault("teacher_weights", problem))
        if len({teacher.shares_tokens for teacher in teachers}) > 1:
            problem = "some read the student's tokens and some do not."
            raise TeacherError(Fault("teacher", problem, "Cache their answers first (cache_teacher), each on its own."))
        total = sum(weights)
        self.members = [(w / total, teacher) for w, teacher in zip(weights, teachers, strict=True) if w > 0]
        self.columns = frozenset().union(*(teacher.columns for _, teacher in self.members))
        self.shares_tokens = teachers[0].shares_tokens
        self.config = teachers[0].config

    def check(self, objective: Objective, task: Task) -> None:
        """Make sure that all of them can.

        Raises:
            TeacherError: One cannot, or gives its likeliest classes alone: others' are different ones.
        """
        for _, teacher in self.members:
            teacher.check(objective, task)
        if any(getattr(teacher, "top_k", 0) for _, teacher in self.members):
            problem = "several are averaged over all classes, and a cache holds the likeliest alone."
            raise TeacherError(Fault("teacher", problem, "Train with the teachers themselves."))

    def prepare(self, needs: Needs, deferred: bool) -> None:
        """Get all of them ready.

        Raises:
            TeacherError: More than their predictions is asked.
        """
        if needs.any:
            problem = "several teach through their predictions alone."
            raise TeacherError(
                Fault("teacher", problem, "Leave out the losses on hidden states, attention and embeddings.")
            )
        for _, teacher in self.members:
            teacher.prepare(needs, deferred)

    def to(self, device: torch.device) -> None:
        """Move all of them."""
        for _, teacher in self.members:
            teacher.to(device)

    def ask(self, batch: Mapping[str, Any]) -> Answer:
        """Ask each of them."""
        answers = [(weight, teacher.ask(batch)) for weight, teacher in self.members]
        return Answer(Signals(), EnsembleRows(tuple((weight, answer.rows) for weight, answer in answers)))


def load_teacher(source: str, student: PreTrainedModel) -> tuple[PreTrainedModel, Any]:
    """Load the teacher of a student, with the same task, and its tokenizer or image processor.

    Raises:
        TeacherError: The student's class says no task that the package knows.
        ModelError: The source is not a usable model.
        NetworkError: It would have to come from the Hub, which cannot be reached.
    """
    task = task_of_class(type(student).__name__)
    if task is None:
        problem = f"cannot be loaded for a {type(student).__name__}, a task that hfcompress does not know."
        raise TeacherError(Fault(source, problem, "Load it yourself and pass the model."))
    return load_model(source, task), load_processor(source, task)
