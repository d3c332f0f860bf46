"""What the Trainer needs of a method that changes what a model computes while it is trained, such as pruning."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Length:
    """How long the training is.

    Args:
        steps: Optimizer steps in all.
        steps_per_epoch: Optimizer steps in one pass over the data.
    """

    steps: int
    steps_per_epoch: int


class Alteration(ABC):
    """Changes what a model computes while it is trained.

    The model's parameters keep their names and shapes; what the model computes with is altered, in training and in
    evaluation alike. `finish` makes that true of the parameters. All that decides it is in `state`, so that a resumed
    run goes on exactly.

    Attributes:
        learned: What is trained beside the model (scores, ranges, codebooks); empty where nothing is.
    """

    learned: nn.ModuleDict

    @abstractmethod
    def attach(self, model: PreTrainedModel) -> None:
        """Alter what the model computes with from now on.

        Raises:
            RequestError: The filters match nothing, or both sides of a tie are asked for apart.
        """

    def prepare(self, length: Length) -> None:  # noqa: B027
        """Take note of how long the training is, before it begins or goes on.

        Raises:
            RequestError: The schedule does not fit into it.
        """

    def set_step(self, step: int) -> None:  # noqa: B027
        """Set what there is to set for optimizer step `step`, counted from 0; called before the step's batches."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the optimizer's groups for what is learned, each with its `params`, `lr` and `weight_decay`."""
        return []

    def penalty(self) -> Tensor | None:
        """Return what is added to the loss of each optimizer step, a scalar; None for nothing."""
        return None

    def logs(self) -> dict[str, float]:
        """Return what is logged beside a loss."""
        return {}

    def progress(self) -> str:
        """Return what the progress bar says of it; nothing where there is nothing to say."""
        return ""

    @property
    def settled(self) -> bool:
        """Whether an evaluation now is of the model that was asked for."""
        return True

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Return all that a checkpoint must hold beside the model."""

    @abstractmethod
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` returned."""

    @abstractmethod
    def finish(self) -> None:
        """Make the alteration true of the model's parameters, and stop altering."""


class AlterationConfig(ABC):
    """Base of the configs of methods that alter while training: `CompressionTrainer(quantization=config)`."""

    @abstractmethod
    def build(self, model: PreTrainedModel) -> Alteration:
        """Return the alteration for a model, not attached yet.

        Raises:
            RequestError: The config does not fit the model.
        """
