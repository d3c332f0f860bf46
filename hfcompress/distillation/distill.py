"""The `distill` step: a small student learns from the model so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Gt, Interval

from hfcompress import registry
from hfcompress.config import checked_by, gather, option
from hfcompress.context import Context
from hfcompress.distillation.layer_maps import check_name
from hfcompress.distillation.students import build_student, student_config
from hfcompress.errors import Fault, RequestError, TeacherError
from hfcompress.modeling.load import load_config, load_model, load_tokenizer
from hfcompress.registry import register
from hfcompress.training.objective import ModelPair, build_objective, parse_losses, read_losses
from hfcompress.training.run import Run, train
from hfcompress.training.teacher import UNTRAINED

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

DEFAULT_ALPHA = 0.7
"""Weight of the teacher's word against the labels', unless the losses say their own."""


@dataclass
class DistillConfig:
    """The student and what it is trained on; any TrainingArguments field can stand beside."""

    student: str | None = option(
        None, help="Hub id, folder, short name, or a cut of the teacher: cut:layers=3, cut:layers=0,2,5"
    )
    teacher: str | None = option(
        None, help="Hub id, folder, or the name of an earlier step (default: the model so far)", recipe_only=True
    )
    losses: Annotated[dict[str, Any] | str | None, checked_by(parse_losses)] = option(
        None, help='names (kl,hidden_mse), or weights and options: {"kl": {"weight": 0.7}, "task": 0.3} (default: kl)'
    )
    temperature: Annotated[float, Gt(0)] | None = option(
        None, help="temperature of the losses that have one (default: 2)"
    )
    alpha: Annotated[float, Interval(ge=0, le=1)] | None = option(
        None, help="weight of the teacher's losses, shared among them; the labels get the rest (default: 0.7)"
    )
    layer_map: Annotated[str, checked_by(check_name)] = option(
        "uniform", help="layers that hidden losses compare: uniform, last, skip, or pairs 1:2,3:6"
    )
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
        if self.teacher is None and not trained:
            raise TeacherError(UNTRAINED)

    def _check_models(self) -> None:
        if not self.student and self.teacher is None:
            raise RequestError(Fault("student", "is missing: what is to be trained?", "For example: cut:layers=3."))

    def resolved_losses(self) -> dict[str, Any]:
        """Return the losses with their weights and options.

        Raises:
            RequestError: Unknown losses or options, values out of range, or `alpha` beside explicit weights.
        """
        return combine_losses(self.losses, self.temperature, self.alpha)


def combine_losses(losses: Any, temperature: float | None, alpha: float | None) -> dict[str, Any]:
    """Bring `losses`, `temperature` and `alpha` into one mapping, checked.

    Losses without weights share `alpha` equally, and the task's own loss gets the rest.

    Example:
        >>> combine_losses("kl", 4.0, 0.9)
        {'kl': {'weight': 0.9, 'temperature': 4.0}, 'task': {'weight': 0.1}}

    Raises:
        RequestError: Unknown losses or options, values out of range, or `alpha` beside explicit weights.
    """
    wanted = read_losses(losses or "kl")
    parse_losses(wanted)
    weighted = [name for name, options in wanted.items() if "weight" in options]
    if alpha is not None and weighted:
        problem = f"cannot stand beside explicit weights ({', '.join(weighted)})."
        raise RequestError(Fault("alpha", problem, "Give either."))
    if not weighted:
        alpha = DEFAULT_ALPHA if alpha is None else alpha
        wanted = {name: options for name, options in wanted.items() if name != "task"} or {"kl": {}}
        share = alpha / len(wanted)
        wanted = {name: {"weight": share, **options} for name, options in wanted.items()}
        wanted["task"] = {"weight": round(1 - alpha, 12)}
    if temperature is not None:
        for name, options in wanted.items():
            if hasattr(registry.find("loss", name).config, "temperature"):
                options.setdefault("temperature", temperature)
    parse_losses(wanted)
    return wanted


def plan(
    config: DistillConfig, model_config: PretrainedConfig, earlier: Mapping[str, PretrainedConfig]
) -> PretrainedConfig:
    """Return the student's config; losses and layer map are tried on the two models."""
    teacher = model_config
    if config.teacher is not None:
        teacher = earlier[config.teacher] if config.teacher in earlier else load_config(config.teacher)
    student = student_config(config.student, teacher) if config.student else model_config
    build_objective(parse_losses(config.resolved_losses()), ModelPair(student, teacher, config.layer_map))
    return student


@register("distillation", "distill", DistillConfig, plan)
def distill(model: PreTrainedModel, config: DistillConfig, context: Context) -> PreTrainedModel:
    """Train a student to answer as its teacher does."""
    losses = config.resolved_losses()
    teacher, teacher_tokenizer = model, context.tokenizer
    if config.teacher is not None:
        place = str(context.earlier.get(config.teacher, config.teacher))
        teacher, teacher_tokenizer = load_model(place, context.task), load_tokenizer(place)
    student = model
    if config.student is not None:
        student, context.tokenizer = build_student(config.student, teacher, teacher_tokenizer, context.task)
    run = Run("distill", config.training, teacher, teacher_tokenizer, losses, config.layer_map)
    return train(student, run, context)
