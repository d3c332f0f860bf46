"""Decoupled knowledge distillation: the target class and the other classes, weighted apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from pydantic import FiniteFloat
from torch import Tensor

from hfcompress.config import option
from hfcompress.distillation.losses.kl import KLConfig, kl_divergence
from hfcompress.registry import register
from hfcompress.training.objective import DistillationLoss
from hfcompress.training.signals import Signals


@dataclass
class DKDConfig(KLConfig):
    """Options of decoupled knowledge distillation."""

    alpha: Annotated[FiniteFloat, Ge(0)] = option(1.0, help="weight of target against rest (TCKD)")
    beta: Annotated[FiniteFloat, Ge(0)] = option(8.0, help="weight of the other classes among themselves (NCKD)")


@register("loss", "dkd", DKDConfig)
class DKDLoss(DistillationLoss):
    """Decoupled knowledge distillation: KL split into the target class and all others.

    `T² · (α · TCKD + β · NCKD)`, with t the target class: TCKD is KL(teacher ‖ student) of `(p_t, 1 − p_t)`, NCKD that
    of the other classes' probabilities `p_c / (1 − p_t)`. With α = 1 and β = 1 − p_t it would be forward KL (equation
    6); a fixed β keeps what the teacher knows of the other classes from fading where it is certain.

    The target is the label; where that is unknown, the teacher's most probable class. With two classes NCKD is 0, and
    dkd is α times forward KL.

    Source: Zhao, Cui, Song, Qiu and Liang, *Decoupled Knowledge Distillation*, 2022, equation 7,
    https://arxiv.org/abs/2203.08679.
    """

    config: DKDConfig
    needs_classes = True

    def forward(self, student: Signals, teacher: Signals) -> Tensor:
        """Return the weighted divergences of each row, `(rows,)`."""
        temperature = self.temperature
        p, q = teacher.log_probabilities(temperature), student.log_probabilities(temperature)
        target = _target(student.labels, p)
        (p_binary, p_others), (q_binary, q_others) = _decouple(p, target), _decouple(q, target)
        tckd, nckd = kl_divergence(p_binary, q_binary), kl_divergence(p_others, q_others)
        return temperature**2 * (self.config.alpha * tckd + self.config.beta * nckd)


def _target(labels: Tensor | None, log_p: Tensor) -> Tensor:
    likeliest = log_p.argmax(-1)
    return likeliest if labels is None else torch.where(labels >= 0, labels, likeliest)


def _decouple(log_p: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Split log-probabilities `(rows, classes)` into target against rest `(rows, 2)`, and the others among themselves.

    Of the others, `(rows, classes)`, the target's is set to 0 at the end: −∞ times its probability of 0 would be NaN.
    """
    is_target = torch.arange(log_p.shape[-1], device=log_p.device) == target[:, None]
    others = log_p.masked_fill(is_target, -torch.inf)
    binary = torch.stack([log_p.gather(-1, target[:, None])[:, 0], others.logsumexp(-1)], dim=-1)
    return binary, others.log_softmax(-1).masked_fill(is_target, 0)
