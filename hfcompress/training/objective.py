"""What distillation losses see and give: signals in, one value a row out, weighted in one place."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from annotated_types import Ge
from pydantic import FiniteFloat
from torch import Tensor, nn

from hfcompress import registry
from hfcompress.config import gather, option, parse
from hfcompress.errors import Fault, RequestError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

Unit = Literal["row", "token"]
"""What a loss gives one value for: a row of logits, or a token of the input."""

LayerMap = str | list[tuple[int, int]]
"""The name of a layer map, or explicit pairs `(student hidden state, teacher hidden state)`; 0 is the embeddings."""


@dataclass(frozen=True)
class Signals:
    """What one model said of one batch.

    Args:
        logits: `(rows, classes)`; in the student's label order.
        hidden_states: The embeddings and every layer's output, each `(tokens, width)` with padding taken out; empty
            unless a loss asks for them.
    """

    logits: Tensor
    hidden_states: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Counts:
    """How many rows of logits, tokens and labels a batch holds, each a scalar; what losses are divided by."""

    row: Tensor
    token: Tensor
    label: Tensor


@dataclass(frozen=True)
class ModelPair:
    """What a loss may know of the two models when it is built."""

    student: PretrainedConfig
    teacher: PretrainedConfig
    layer_map: LayerMap = "uniform"


@dataclass
class LossConfig:
    """What every loss can be told."""

    weight: Annotated[FiniteFloat, Ge(0)] = option(1.0, help="factor of this loss in the sum")


class DistillationLoss(nn.Module, ABC):
    """Base of the losses between a student and its teacher.

    A loss gives one value a row (or a token) and leaves the averaging to the trainer, which divides by the count over
    all accumulated batches and processes. So the same samples give the same gradient however they are split.
    """

    unit: Unit = "row"
    needs_hidden_states = False

    def __init__(self, config: Any, pair: ModelPair) -> None:
        """Keep the config; a loss that depends on the two models reads `pair`."""
        super().__init__()
        self.config = config

    @abstractmethod
    def forward(self, student: Signals, teacher: Signals) -> Tensor:
        """Return the loss of each row, `(rows,)`, or of each token, `(tokens,)`."""


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
    if not any(config.weight > 0 for config in configs.values()):
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
    def needs_hidden_states(self) -> bool:
        """Whether any loss reads hidden states."""
        return any(loss.needs_hidden_states for loss in self.terms.values())

    @property
    def token_losses(self) -> list[str]:
        """Names of the losses that compare token by token, so that both models must read the same tokens."""
        return [name for name, loss in self.terms.items() if loss.unit == "token"]

    def modules(self) -> nn.ModuleDict:
        """Return the losses as one module: it holds all that is learned beside the student."""
        return nn.ModuleDict(self.terms)

    def __call__(
        self, student: Signals, teacher: Signals, task_mean: Tensor | None, counts: Counts, total: Counts
    ) -> dict[str, Tensor]:
        """Return each term's share of the whole batch's loss, weights included; their sum is what is minimised.

        Args:
            student: What the student said of this micro-batch on this process.
            teacher: What the teacher said of it.
            task_mean: The student's own mean loss on its labels; None when there is no task loss.
            counts: What this micro-batch holds.
            total: What the whole batch holds, over all micro-batches and processes.
        """
        shares = {}
        for name, loss in self.terms.items():
            value = full_precision(loss(student, teacher)).sum()
            shares[name] = loss.config.weight * value / getattr(total, loss.unit).clamp(min=1)
        if self.task is not None and task_mean is not None:
            value = self.task(task_mean, counts.label)
            shares["task"] = self.task.config.weight * value / total.label.clamp(min=1)
        return shares


def build_objective(configs: Mapping[str, LossConfig], pair: ModelPair) -> Objective:
    """Build the losses for a student and a teacher; losses of weight 0 are left out.

    Raises:
        RequestError: A loss does not fit the two models, for example a layer that does not exist.
    """
    losses = {
        name: registry.find("loss", name).target(config, pair) for name, config in configs.items() if config.weight > 0
    }
    return Objective(task=losses.pop("task", None), terms=losses)


def full_precision(tensor: Tensor) -> Tensor:
    """Return half precision as float32, and float32 and float64 as they are: what losses compute in."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def without_padding(hidden_states: tuple[Tensor, ...], mask: Tensor) -> tuple[Tensor, ...]:
    """Keep the vectors of real tokens.

    Args:
        hidden_states: Each `(batch, seq, width)`.
        mask: `(batch, seq)`, True at real tokens.

    Returns:
        Each `(tokens, width)`.
    """
    positions = mask.flatten().nonzero().squeeze(-1)
    return tuple(torch.index_select(states.flatten(0, 1), 0, positions) for states in hidden_states)
