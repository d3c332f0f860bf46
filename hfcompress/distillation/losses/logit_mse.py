"""Mean squared error on logits: the limit of soft targets at high temperature."""

from __future__ import annotations

from torch import Tensor

from hfcompress.registry import register
from hfcompress.training.objective import DistillationLoss, LossConfig
from hfcompress.training.signals import Signals, full_precision, present


@register("loss", "logit_mse", LossConfig)
class LogitMSELoss(DistillationLoss):
    """Mean squared difference of the logits.

    `1/C · Σ_c (student_c − teacher_c)²`

    Source: Ba and Caruana, *Do Deep Nets Really Need to be Deep?*, 2014, equation 1, https://arxiv.org/abs/1312.6184.
    """

    def forward(self, student: Signals, teacher: Signals) -> Tensor:
        """Return the mean over the classes of each row, `(rows,)`."""
        return (full_precision(present(student.logits)) - full_precision(present(teacher.logits))).square().mean(-1)
