"""Reverse Kullback–Leibler divergence: the student keeps to what the teacher finds likely."""

from __future__ import annotations

from torch import Tensor

from hfcompress.distillation.losses.kl import KLConfig, kl_divergence
from hfcompress.registry import register
from hfcompress.training.objective import DistillationLoss
from hfcompress.training.signals import Signals


@register("loss", "reverse_kl", KLConfig)
class ReverseKLLoss(DistillationLoss):
    """KL divergence of the teacher from the student's softened predictions (reverse KL, mode-seeking).

    `T² · Σ_c q_T(c) · log(q_T(c) / p_T(c))` with `p_T = softmax(teacher / T)`, `q_T = softmax(student / T)`.

    Source: Gu, Dong, Wei and Huang, *MiniLLM: Knowledge Distillation of Large Language Models*, 2024, equation 1,
    https://arxiv.org/abs/2306.08543.
    """

    needs_classes = True

    def forward(self, student: Signals, teacher: Signals) -> Tensor:
        """Return the divergence of each row, `(rows,)`."""
        temperature = self.temperature
        p, q = teacher.log_probabilities(temperature), student.log_probabilities(temperature)
        return temperature**2 * kl_divergence(q, p)
