"""A student and its teachers put together: checked, their losses built, both ready to be listened to."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hfcompress.data import TEACHER_PREFIX
from hfcompress.errors import Fault, TeacherError
from hfcompress.tasks import Task, task_of_class
from hfcompress.training.answers import Listener, use_eager_attention
from hfcompress.training.distiller import Distiller
from hfcompress.training.heads import DeferredHead
from hfcompress.training.objective import LayerMap, ModelPair, Objective, build_objective, parse_losses
from hfcompress.training.teacher import Ensemble, ModelTeacher, Teacher
from hfcompress.training.teacher_checks import check_teacher

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)


@dataclass
class Lesson:
    """What a student is taught, and how.

    Args:
        teachers: Models or caches, one or several, each with its tokenizer or image processor where known.
        weights: The teachers' weights; all alike when None.
        losses: Names, weights and options.
        layer_map: Which layers the losses on hidden states compare.
        columns: Of the training data; None when unknown.
        own_loss: Whether the student's loss on labels is computed by a function of the user's.
        task: What the models are for (default: what the student's class says).
    """

    teachers: Sequence[tuple[PreTrainedModel | Teacher, Any]]
    weights: Sequence[float] | None
    losses: Mapping[str, Any] | str
    layer_map: LayerMap = "uniform"
    columns: Sequence[str] | None = None
    own_loss: bool = False
    task: Task | None = None


def build_distiller(student: PreTrainedModel, processor: Any, lesson: Lesson) -> Distiller:
    """Check that student and teachers go together, and build their losses.

    Args:
        student: The model to train.
        processor: Its tokenizer or image processor, where known.
        lesson: What it is taught.

    Raises:
        TeacherError: A teacher is not fit to teach this student.
        RequestError: Losses or layer map do not fit the models.
    """
    task = lesson.task or task_of_class(type(student).__name__) or Task(names_labels=True)
    teachers = _check_teachers(student, processor, lesson, task)
    teacher = teachers[0] if len(teachers) == 1 else Ensemble(teachers, lesson.weights)
    objective = build_objective(
        parse_losses(lesson.losses), ModelPair(student.config, teacher.config, lesson.layer_map)
    )
    if not task.has_task_loss:
        objective.task = None
    if not teacher.shares_tokens:
        _check_tokens(objective, task, lesson.columns)
    head = None if lesson.own_loss else DeferredHead.of(student)
    teacher.check(objective, task)
    teacher.prepare(objective.teacher_needs, deferred=head is not None)
    if objective.student_needs.attentions:
        logger.warning("Losses on attention read its probabilities: both models run with eager attention.")
        use_eager_attention(student)
    for one in teachers:
        _compare_sizes(student, one)
    return Distiller(teacher, objective, task, Listener(student, task, objective.student_needs, head))


def _check_teachers(student: PreTrainedModel, processor: Any, lesson: Lesson, task: Task) -> list[Teacher]:
    """Check each teacher; of several, faults say which one they are about."""

    def check(number: int, one: PreTrainedModel | Teacher, own: Any) -> Teacher:
        if isinstance(one, Teacher):
            return one
        try:
            return check_teacher(one, student, own, processor, task)
        except TeacherError as error:
            if len(lesson.teachers) == 1:
                raise
            raise TeacherError(*(replace(fault, where=f"teacher {number}") for fault in error.faults)) from None

    return [check(number, *pair) for number, pair in enumerate(lesson.teachers, start=1)]


def _compare_sizes(student: PreTrainedModel, teacher: Teacher) -> None:
    if not isinstance(teacher, ModelTeacher):
        return
    ours, larger = (sum(weight.numel() for weight in model.parameters()) for model in (student, teacher.model))
    if ours > larger:
        logger.warning("The student (%.1f M parameters) is larger than its teacher (%.1f M).", ours / 1e6, larger / 1e6)


def _check_tokens(objective: Objective, task: Task, columns: Sequence[str] | None) -> None:
    """Refuse losses that compare tokens when teacher and student read different ones.

    Raises:
        TeacherError: There are such losses, the task compares tokens itself, or the training data holds no tokens for
            the teacher.
    """
    problem = "its tokenizer differs from the student's"
    if task.name and not task.foreign_teachers:
        fix = "Choose a student with the teacher's tokenizer, such as a cut of it or a preset (--student-init teacher)."
        raise TeacherError(Fault("teacher", f"{problem}, and {task.name} compares token by token.", fix))
    if objective.token_losses:
        working = [name for name in objective.terms if name not in objective.token_losses]
        fix = f"Leave them out; losses on logits still work{': ' + ', '.join(working) if working else ', such as kl'}."
        names = ", ".join(objective.token_losses)
        raise TeacherError(Fault("teacher", f"{problem}, and {names} compare token by token.", fix))
    if columns is not None and f"{TEACHER_PREFIX}input_ids" not in columns:
        fix = f"Tokenize the text for it too: columns {TEACHER_PREFIX}input_ids and {TEACHER_PREFIX}attention_mask."
        raise TeacherError(Fault("teacher", f"{problem}.", fix))
