"""The `distill` step: a small student learns from the model so far."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Interval
from tqdm.auto import tqdm

from hfcompress.config import checked_by, gather, option
from hfcompress.context import Context
from hfcompress.distillation.students import build_student, student_config
from hfcompress.errors import Fault, RequestError, TeacherError
from hfcompress.modeling.load import load_config, load_model, load_processor
from hfcompress.processes import is_main_process
from hfcompress.registry import register
from hfcompress.training.layer_maps import check_layer_map
from hfcompress.training.lora import LORA_HELP, Lora
from hfcompress.training.loss_weights import combine_losses
from hfcompress.training.objective import ModelPair, build_objective, parse_losses
from hfcompress.training.run import Run, encode_rows, foreign_processor, train
from hfcompress.training.schedules import Positive
from hfcompress.training.teacher_checks import UNTRAINED

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PretrainedConfig, PreTrainedModel


@dataclass
class DistillConfig:
    """The student and what it is trained on; any TrainingArguments field can stand beside."""

    student: str | None = option(
        None,
        help="Hub id, folder, short name or preset (bert-tiny, tinybert, resnet-18, …), or a cut of the teacher: "
        "cut:layers=3, cut:layers=0,2,5, cut:encoder=6;decoder=2",
    )
    student_init: Literal["pretrained", "random", "teacher"] = option(
        "pretrained", help="a preset's weights: pretrained (from the Hub), random, or from the teacher"
    )
    teacher: str | list[str] | None = option(
        None,
        help="Hub id, folder, or the name of an earlier step, or a list of them, whose predictions are averaged "
        "(default: the model so far)",
        recipe_only=True,
    )
    teacher_weights: list[Annotated[float, Ge(0)]] | None = option(
        None, help="the weight of each of several teachers (default: all alike)"
    )
    cache_teacher: str | None = option(
        None,
        help="folder for the teacher's answers: computed once, then read by every run with the same teacher and data",
    )
    losses: Annotated[dict[str, Any] | str | None, checked_by(parse_losses)] = option(
        None, help='names (kl,hidden_mse), or weights and options: {"kl": {"weight": 0.7}, "task": 0.3} (default: kl)'
    )
    temperature: Positive | None = option(
        None, help="temperature of the losses that have one (default: 2); in recipes also {start, end, schedule}"
    )
    alpha: Annotated[float, Interval(ge=0, le=1)] | None = option(
        None, help="weight of the teacher's losses, shared among them; the labels get the rest (default: 0.7)"
    )
    layer_map: Annotated[str, checked_by(check_layer_map)] = option(
        "uniform", help="layers that hidden losses compare: uniform, last, skip, or pairs 1:2,3:6"
    )
    lora: Lora = option(None, help=LORA_HELP)
    training: dict[str, Any] = option(
        {}, help="TrainingArguments fields, which can also be written without `training:`", recipe_only=True
    )

    def check(self) -> None:
        """Look across the fields.

        Raises:
            RequestError: There is nothing to train, or the losses do not go with `alpha`.
        """
        gather(self._check_models, self.resolved_losses)

    def check_start(self, trained: bool) -> None:
        """Check, when this is a recipe's first step, that the starting model can be its teacher.

        Raises:
            TeacherError: Its head was never trained.
        """
        if not self.teachers and not trained:
            raise TeacherError(UNTRAINED)

    def _check_models(self) -> None:
        if not self.student and not self.teachers:
            raise RequestError(Fault("student", "is missing: what is to be trained?", "For example: cut:layers=3."))

    @property
    def teachers(self) -> list[str]:
        """The teachers that were named."""
        return [self.teacher] if isinstance(self.teacher, str) else list(self.teacher or ())

    def resolved_losses(self, default: str = "kl") -> dict[str, Any]:
        """Return the losses with their weights and options.

        Args:
            default: The loss of a task where the user names none.

        Raises:
            RequestError: Unknown losses or options, values out of range, or `alpha` beside explicit weights.
        """
        return combine_losses(self.losses, self.temperature, self.alpha, default)


def plan(
    config: DistillConfig, model_config: PretrainedConfig, earlier: Mapping[str, PretrainedConfig]
) -> PretrainedConfig:
    """Return the student's config; losses and layer map are tried on the two models."""
    named = config.teachers
    found = [earlier[name] if name in earlier else load_config(name) for name in named]
    teacher = found[0] if found else model_config
    student = student_config(config.student, teacher, init=config.student_init) if config.student else model_config
    build_objective(parse_losses(config.resolved_losses()), ModelPair(student, teacher, config.layer_map))
    return student


@register("distillation", "distill", DistillConfig, plan)
def distill(model: PreTrainedModel, config: DistillConfig, context: Context) -> PreTrainedModel:
    """Train a student to answer as its teacher does."""
    losses = config.resolved_losses(context.task.default_loss)
    places = [str(context.earlier.get(name, name)) for name in config.teachers]
    teachers = [(load_model(place, context.task), load_processor(place, context.task)) for place in places]
    teachers = teachers or [(model, context.processor)]
    student = model
    if config.student is not None:
        student, context.processor = build_student(config.student, *teachers[0], context.task, init=config.student_init)
    run = Run("distill", config.training, teachers, config.teacher_weights, losses, config.layer_map)
    run.lora = config.lora
    if config.cache_teacher:
        run.rows, run.teachers = from_cache(Path(config.cache_teacher), student, run, context)
    return train(student, run, context)


def from_cache(
    folder: Path, student: PreTrainedModel, run: Run, context: Context
) -> tuple[Dataset, Sequence[tuple[Any, Any]]]:
    """Return the rows to train on and the teachers' answers to them, computed into a folder where they are not there.

    Several teachers have a folder each inside.

    Raises:
        TeacherError: The folder holds the answers of another teacher or to other data, or the losses read what cannot
            be cached.
        DiskSpaceError: The disk lacks room.
    """
    from hfcompress.training.cache_building import Job, Watch, cached
    from hfcompress.training.cache_identity import CacheIdentity, model_sha256, tokenization_sha256
    from hfcompress.training.collator import PairedCollator
    from hfcompress.training.teacher_checks import check_teacher

    rows = encode_rows(context, run.teachers)
    collate = PairedCollator(context.task, context.processor, foreign_processor(run.teachers, context))
    found = []
    teachers: Sequence[tuple[Any, Any]] = run.teachers
    for number, (model, processor) in enumerate(teachers):
        teacher = check_teacher(model, student, processor, context.processor, context.task)
        pair = ModelPair(student.config, model.config, run.layer_map)
        tokenization = tokenization_sha256(processor, context.data.max_length)
        identity = CacheIdentity(model_sha256(model), context.data.fingerprint, tokenization)
        objective = build_objective(parse_losses(run.losses or {}), pair)
        job = Job(teacher, rows, collate, objective, identity, watch=Watch(_say, context.progress))
        place = folder if len(run.teachers) == 1 else folder / f"teacher-{number + 1}"
        found.append((cached(job, place, student.config), None))
    return found[0][0].train_dataset, found


def _say(text: str) -> None:
    if is_main_process():
        tqdm.write(text, file=sys.stderr)
