"""Forward Kullback–Leibler divergence on softened logits: Hinton's knowledge distillation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hfcompress.config import option
from hfcompress.registry import register
from hfcompress.training.objective import DistillationLoss, LossConfig
from hfcompress.training.schedules import Positive
from hfcompress.training.signals import Signals


@dataclass
class KLConfig(LossConfig):
    """Options of the divergences on softened logits."""

    temperature: Positive = option(
        2.0, help="logits are divided by it, higher is softer; a number or {start, end, schedule}"
    )


def kl_divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return KL(p ‖ q) of each row.

    Args:
        log_p: Log-probabilities `(rows, classes)`.
        log_q: Log-probabilities `(rows, classes)`.

    Returns:
        `(rows,)`
    """
    return torch.nn.functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)


@register("loss", "kl", KLConfig)
class KLLoss(DistillationLoss):
    """KL divergence of the student from the teacher's softened predictions (forward KL).

    `T² · Σ_c p_T(c) · log(p_T(c) / q_T(c))` with `p_T = softmax(teacher / T)`, `q_T = softmax(student / T)`; the
    factor T² keeps the gradient's size independent of T.

    Source: Hinton, Vinyals and Dean, *Distilling the Knowledge in a Neural Network*, 2015, section 2,
    https://arxiv.org/abs/1503.02531.
    """

    needs_classes = True

    def forward(self, student: Signals, teacher: Signals) -> Tensor:
        """Return the divergence of each row, `(rows,)`."""
        temperature = self.temperature
        p, q = teacher.log_probabilities(temperature), student.log_probabilities(temperature)
        return temperature**2 * kl_divergence(p, q)
