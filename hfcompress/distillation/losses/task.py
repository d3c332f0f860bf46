"""The hard-label loss: what the student is trained on without a teacher."""

from __future__ import annotations

from torch import Tensor, nn

from hfcompress.registry import register
from hfcompress.training.objective import LossConfig, ModelPair
from hfcompress.training.schedules import value_at
from hfcompress.training.signals import full_precision


@register("loss", "task", LossConfig)
class TaskLoss(nn.Module):
    """The task's own loss on the labels, as the student computes it, label smoothing included.

    For classification the cross entropy `−log softmax(student)_y`. Models return its mean over a micro-batch; this
    gives back the sum, so that the trainer can divide it by the count over all accumulated batches and processes.
    """

    def __init__(self, config: LossConfig, pair: ModelPair) -> None:
        super().__init__()
        self.config = config
        self.progress = 0.0

    @property
    def weight(self) -> float:
        """The loss's weight now."""
        return value_at(self.config.weight, self.progress)

    def forward(self, mean: Tensor, labels: Tensor) -> Tensor:
        """Return the sum of the loss over a micro-batch.

        Args:
            mean: The loss that the student returned, a scalar.
            labels: How many labels it is the mean of, a scalar.
        """
        return full_precision(mean) * labels
