"""What the Trainer needs of a pruning method that works while it trains; the methods are in `hfcompress.pruning`."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from hfcompress.training.alteration import Alteration, AlterationConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SETTLED = 1e-3
"""How near to the final sparsity an evaluation must be to be of the model that was asked for."""


class Pruner(Alteration):
    """Prunes a model while it is trained: masks what the model computes with, until `finish` makes the masks true.

    Attributes:
        learned: What is trained beside the model (scores); empty where nothing is.
    """

    @property
    @abstractmethod
    def sparsity(self) -> float:
        """The share of the maskable weights that is masked now, 0 to 1."""

    @property
    @abstractmethod
    def target(self) -> float | None:
        """The share that will be masked in the end; None where training decides it."""

    def logs(self) -> dict[str, float]:
        """Return the sparsity."""
        return {"sparsity": round(self.sparsity, 4)}

    def progress(self) -> str:
        """Say how sparse the model is and will be: `sparsity 0.41 of 0.85`."""
        target = self.target
        return f"sparsity {self.sparsity:.2f}" + (f" of {target:.2f}" if target is not None else "")

    @property
    def settled(self) -> bool:
        """Whether the model is as sparse as asked."""
        return self.target is None or self.sparsity >= self.target - _SETTLED


class PrunerConfig(AlterationConfig):
    """Base of the configs of methods that prune while training: `CompressionTrainer(pruning=config)`."""

    @abstractmethod
    def build(self, model: PreTrainedModel) -> Pruner:
        """Return the pruner for a model, not attached yet.

        Raises:
            RequestError: The config does not fit the model.
        """
