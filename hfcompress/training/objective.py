"""What distillation losses see and give: signals in, one value a row out, weighted in one place."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from hfcompress import registry
from hfcompress.config import gather, option, parse
from hfcompress.errors import Fault, RequestError
from hfcompress.training.schedules import NotNegative, largest, value_at
from hfcompress.training.signals import Counts, Needs, Signals, full_precision

if TYPE_CHECKING:
    from transformers import PretrainedConfig

Unit = Literal["row", "token", "text"]
"""What a loss gives one value for: a row of logits, a token of the input, or an example of the batch."""

LayerMap = str | list[tuple[int, int]]
"""The name of a layer map, or explicit pairs `(student hidden state, teacher hidden state)`; 0 is the embeddings."""


@dataclass(frozen=True)
class ModelPair:
    """What a loss may know of the two models when it is built."""

    student: PretrainedConfig
    teacher: PretrainedConfig
    layer_map: LayerMap = "uniform"


@dataclass
class LossConfig:
    """What every loss can be told."""

    weight: NotNegative = option(1.0, help="factor of this loss in the sum; a number or {start, end, schedule}")


class DistillationLoss(nn.Module, ABC):
    """Base of the losses between a student and its teacher.

    A loss gives one value a row (or token, or text) and leaves the averaging to the trainer, which divides by the count
    over all accumulated batches and processes. So the same samples give the same gradient however they are split.

    Attributes:
        unit: What it gives one value for.
        needs_hidden_states: Whether it reads `hidden_states`.
        needs_embeddings: Whether it reads `embeddings`.
        needs_attentions: Whether it reads `attentions`; both models then run with eager attention.
        needs_classes: Whether it compares probabilities, so that one number a row (a regression) will not do.
        student_layers, teacher_layers: Whose `projections` it reads.
        progress: Share of the training that is done, 0 to 1; weight and temperature may depend on it.
    """

    unit: Unit = "row"
    needs_hidden_states = False
    needs_embeddings = False
    needs_attentions = False
    needs_classes = False
    student_layers: tuple[int, ...] = ()
    teacher_layers: tuple[int, ...] = ()

    def __init__(self, config: Any, pair: ModelPair) -> None:
        """Keep the config; a loss that depends on the two models reads `pair`."""
        super().__init__()
        self.config = config
        self.progress = 0.0

    @property
    def weight(self) -> float:
        """The loss's weight now."""
        return value_at(self.config.weight, self.progress)

    @property
    def temperature(self) -> float:
        """The loss's temperature now."""
        return value_at(self.config.temperature, self.progress)

    @property
    def reads_tokens(self) -> bool:
        """Whether it compares token by token, so that both models must read the same tokens."""
        return self.unit == "token"

    @abstractmethod
    def forward(self, student: Signals, teacher: Signals) -> Tensor:
        """Return the loss of each row `(rows,)`, token `(tokens,)` or text `(batch,)`, as `unit` says."""


DEFAULT_LOSSES: dict[str, Any] = {"kl": {"weight": 0.7, "temperature": 2.0}, "task": 0.3}
"""Hinton's pair: soft targets and hard labels."""


def read_losses(losses: str | Mapping[str, Any]) -> dict[str, Any]:
    """Bring all ways to write losses into one: `{name: {option: value}}`.

    Args:
        losses: A mapping whose values are options or just a weight, the same as JSON, or names: `kl,hidden_mse`.

    Example:
        >>> read_losses("kl,task")
        {'kl': {}, 'task': {}}
        >>> read_losses({"kl": {"temperature": 4}, "task": 0.3})
        {'kl': {'temperature': 4}, 'task': {'weight': 0.3}}

    Raises:
        RequestError: It is none of these.
    """
    if isinstance(losses, str):
        if not losses.lstrip().startswith("{"):
            losses = {name.strip(): {} for name in losses.split(",") if name.strip()}
        else:
            try:
                losses = json.loads(losses)
            except json.JSONDecodeError as error:
                raise RequestError(Fault("losses", f"is not valid JSON: {error}.")) from None
    if not isinstance(losses, Mapping) or not losses:
        example = 'Write for example kl,hidden_mse or {"kl": {"temperature": 4}, "task": 0.3}.'
        raise RequestError(Fault("losses", f"takes names or a mapping of name to options, got {losses!r}.", example))
    return {
        str(name).replace("-", "_"): dict(value) if isinstance(value, Mapping) else {"weight": value}
        for name, value in losses.items()
    }


def parse_losses(losses: str | Mapping[str, Any]) -> dict[str, LossConfig]:
    """Check losses and their options against the registry.

    Raises:
        RequestError: Unknown losses or options, values out of range, no loss with a weight; all of them.
    """

    def check(name: str, options: dict[str, Any]) -> LossConfig:
        return parse(registry.find("loss", name, "losses").config, options, f"losses.{name}")

    wanted = read_losses(losses)
    configs = dict(
        zip(wanted, gather(*(partial(check, name, options) for name, options in wanted.items())), strict=True)
    )
    if not any(largest(config.weight) > 0 for config in configs.values()):
        raise RequestError(Fault("losses", "every weight is 0: there is nothing to train on."))
    return configs


@dataclass
class Objective:
    """The weighted sum that a student is trained on.

    Args:
        terms: The losses against the teacher, by name.
        task: The hard-label loss; None when its weight is 0.
    """

    terms: dict[str, DistillationLoss]
    task: Any = None

    @property
    def student_needs(self) -> Needs:
        """What the losses ask of the student."""
        return self._needs("student_layers")

    @property
    def teacher_needs(self) -> Needs:
        """What the losses ask of the teacher."""
        return self._needs("teacher_layers")

    def _needs(self, layers: str) -> Needs:
        losses = self.terms.values()
        return Needs(
            hidden_states=any(loss.needs_hidden_states for loss in losses),
            embeddings=any(loss.needs_embeddings for loss in losses),
            attentions=any(loss.needs_attentions for loss in losses),
            projections=tuple(sorted({layer for loss in losses for layer in getattr(loss, layers)})),
        )

    @property
    def token_losses(self) -> list[str]:
        """Names of the losses that compare token by token, so that both models must read the same tokens."""
        return [name for name, loss in self.terms.items() if loss.reads_tokens]

    @property
    def row_terms(self) -> dict[str, DistillationLoss]:
        """The losses on logits."""
        return {name: loss for name, loss in self.terms.items() if loss.unit == "row"}

    @property
    def other_terms(self) -> dict[str, DistillationLoss]:
        """The losses on tokens and texts."""
        return {name: loss for name, loss in self.terms.items() if loss.unit != "row"}

    def set_progress(self, progress: float) -> None:
        """Tell the losses which share of the training is done, from 0 to 1."""
        for loss in (*self.terms.values(), *([self.task] if self.task is not None else [])):
            loss.progress = progress

    def modules(self) -> nn.ModuleDict:
        """Return the losses as one module: it holds all that is learned beside the student."""
        return nn.ModuleDict(self.terms)

    def row_shares(self, student: Signals, teacher: Signals, total: Counts) -> dict[str, Tensor]:
        """Return what rows of logits add to each loss on logits, weights included."""
        return _shares(self.row_terms, student, teacher, total)

    def other_shares(self, student: Signals, teacher: Signals, total: Counts) -> dict[str, Tensor]:
        """Return what a micro-batch adds to each loss on tokens and texts, weights included."""
        return _shares(self.other_terms, student, teacher, total)

    def task_share(self, value: Tensor, total: Counts) -> Tensor:
        """Return what labels add to the task's loss, its weight included.

        Args:
            value: The sum of the loss over a micro-batch's labels.
            total: What the whole batch holds, over all micro-batches and processes.
        """
        return self.task.weight * value / total.label.clamp(min=1)


def _shares(
    losses: Mapping[str, DistillationLoss], student: Signals, teacher: Signals, total: Counts
) -> dict[str, Tensor]:
    return {
        name: loss.weight * full_precision(loss(student, teacher)).sum() / getattr(total, loss.unit).clamp(min=1)
        for name, loss in losses.items()
    }


def build_objective(configs: Mapping[str, LossConfig], pair: ModelPair) -> Objective:
    """Build the losses for a student and a teacher; losses of weight 0 are left out.

    Raises:
        RequestError: A loss does not fit the two models, for example a layer that does not exist.
    """
    losses = {
        name: registry.find("loss", name).target(config, pair)
        for name, config in configs.items()
        if largest(config.weight) > 0
    }
    objective = Objective(task=losses.pop("task", None), terms=losses)
    unfit = [name for name, loss in losses.items() if loss.needs_classes] if is_regression(pair.student) else []
    if unfit:
        problem = f"{', '.join(unfit)} compare probabilities of classes; a regression gives one number."
        raise RequestError(Fault("losses", problem, "Use logit_mse."))
    return objective


def is_regression(config: PretrainedConfig) -> bool:
    """Say whether a classifier gives one number instead of classes."""
    return config.num_labels == 1 or config.problem_type == "regression"
