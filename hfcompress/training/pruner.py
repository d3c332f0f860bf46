"""What the Trainer needs of a pruning method that works while it trains; the methods are in `hfcompress.pruning`."""

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


class Pruner(ABC):
    """Prunes a model while it is trained.

    The model's parameters stay dense and keep their names; what the model computes with is masked, in training and in
    evaluation alike. `finish` makes the masks true. All that decides the masks is in `state`, so that a resumed run
    goes on exactly.

    Attributes:
        learned: What is trained beside the model (scores); empty where nothing is.
    """

    learned: nn.ModuleDict

    @abstractmethod
    def attach(self, model: PreTrainedModel) -> None:
        """Mask what the model computes with from now on.

        Raises:
            RequestError: The filters match nothing, or both sides of a tie are asked for apart.
        """

    @abstractmethod
    def prepare(self, length: Length) -> None:
        """Take note of how long the training is, before it begins or goes on.

        Raises:
            RequestError: The schedule does not fit into it.
        """

    @abstractmethod
    def set_step(self, step: int) -> None:
        """Set the masks for optimizer step `step`, counted from 0; called before the step's batches."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the optimizer's groups for what is learned, each with its `params`, `lr` and `weight_decay`."""
        return []

    def penalty(self) -> Tensor | None:
        """Return what is added to the loss of each optimizer step, a scalar; None for nothing."""
        return None

    @property
    @abstractmethod
    def sparsity(self) -> float:
        """The share of the maskable weights that is masked now, 0 to 1."""

    @property
    @abstractmethod
    def target(self) -> float | None:
        """The share that will be masked in the end; None where training decides it."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Return all that a checkpoint must hold beside the model: scores, masks, what the schedule remembers."""

    @abstractmethod
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` returned."""

    @abstractmethod
    def finish(self) -> None:
        """Make the masks true: set what is masked to zero, and stop masking."""


class PrunerConfig(ABC):
    """Base of the configs of methods that prune while training: `CompressionTrainer(pruning=config)`."""

    @abstractmethod
    def build(self, model: PreTrainedModel) -> Pruner:
        """Return the pruner for a model, not attached yet.

        Raises:
            RequestError: The config does not fit the model.
        """
