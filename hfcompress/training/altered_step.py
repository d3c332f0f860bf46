"""A step that trains while the model is altered (pruned, quantized, …): the options of its training, and the run."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from annotated_types import Interval

from hfcompress.config import checked_by, option
from hfcompress.errors import TeacherError
from hfcompress.modeling.load import load_model, load_processor
from hfcompress.training.alteration import Alteration
from hfcompress.training.layer_maps import check_layer_map
from hfcompress.training.loss_weights import combine_losses
from hfcompress.training.objective import parse_losses
from hfcompress.training.run import Run, train
from hfcompress.training.schedules import Positive
from hfcompress.training.teacher_checks import UNTRAINED
from hfcompress.training.trainer_alterations import Kind

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from hfcompress.context import Context


@dataclass
class TrainingOptions:
    """What a model learns while it is altered; a base of the configs of methods that train."""

    teacher: str | None = option(
        None,
        help="with training: Hub id, folder, or in recipes the name of an earlier step, to learn from (default: the "
        "model as it comes in, where losses, temperature or alpha are given; else the labels alone)",
    )
    losses: Annotated[dict[str, Any] | str | None, checked_by(parse_losses)] = option(
        None, help='with training: losses as names (kl,hidden_mse), or weights and options: {"kl": 0.7, "task": 0.3}'
    )
    temperature: Positive | None = option(
        None, help="with training: temperature of the losses that have one; in recipes also {start, end, schedule}"
    )
    alpha: Annotated[float, Interval(ge=0, le=1)] | None = option(
        None, help="with training: weight of the teacher's losses, shared among them; the labels get the rest"
    )
    layer_map: Annotated[str, checked_by(check_layer_map)] = option(
        "uniform", help="with training: layers that hidden losses compare: uniform, last, skip, or pairs 1:2,3:6"
    )
    training: dict[str, Any] = option(
        {}, help="TrainingArguments fields, which can also be written without `training:`", recipe_only=True
    )

    @property
    def teaches(self) -> bool:
        """Whether there is a teacher."""
        return any(value is not None for value in (self.teacher, self.losses, self.temperature, self.alpha))

    def resolved_losses(self, default: str = "kl") -> dict[str, Any] | None:
        """Return the losses with their weights and options; None without a teacher.

        Args:
            default: The loss of a task where the user names none.

        Raises:
            RequestError: Unknown losses or options, values out of range, or `alpha` beside explicit weights.
        """
        return combine_losses(self.losses, self.temperature, self.alpha, default) if self.teaches else None

    def check_losses(self) -> None:
        """Look across the fields on losses.

        Raises:
            RequestError: They do not go together.
        """
        self.resolved_losses()

    def check_start(self, trained: bool) -> None:
        """Check, when this is a recipe's first step, that the starting model can be its teacher.

        Raises:
            TeacherError: Its head was never trained.
        """
        if self.teaches and self.teacher is None and not trained:
            raise TeacherError(UNTRAINED)


class TrainedAlteration(Protocol):
    """The config of a method that alters a model while it trains."""

    teacher: str | None
    layer_map: str
    training: dict[str, Any]

    def build(self, model: PreTrainedModel) -> Alteration:
        """Return the alteration for a model."""

    def resolved_losses(self, default: str = "kl") -> dict[str, Any] | None:
        """Return the losses; None without a teacher."""


def train_altered(
    kind: Kind, model: PreTrainedModel, config: TrainedAlteration, context: Context, title: str
) -> PreTrainedModel:
    """Train a model while it is altered; in the end that is true of its weights.

    With losses it learns from a teacher: the one that is named, or a copy of the model as it comes in. Without, it
    learns from the labels.

    Args:
        kind: What the alteration is, as `CompressionTrainer` names it.
        model: The model; changed in place.
        config: How it is altered, and what it learns.
        context: Gives the data.
        title: Shown beside the progress bar.

    Raises:
        RequestError: The config does not fit the model, or the schedule the training.
        TeacherError: The teacher is not fit to teach this model.
        InterruptedByUserError: Ctrl-C; a checkpoint was saved.
        NonFiniteLossError: The loss became NaN or infinite.
    """
    losses = config.resolved_losses(context.task.default_loss)
    alteration = config.build(model)
    teachers = []
    if config.teacher is not None:
        place = str(context.earlier.get(config.teacher, config.teacher))
        teachers = [(load_model(place, context.task), load_processor(place, context.task))]
    elif losses is not None:
        teachers = [(copy.deepcopy(model), context.processor)]
    run = Run(title, config.training, teachers, losses=losses, layer_map=config.layer_map)
    run.alterations = {kind: alteration}
    return train(model, run, context)
