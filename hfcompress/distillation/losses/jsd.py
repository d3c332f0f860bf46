"""Generalised Jensen–Shannon divergence: between forward and reverse KL."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Interval
from torch import Tensor

from hfcompress.config import option
from hfcompress.distillation.losses.kl import KLConfig, kl_divergence
from hfcompress.registry import register
from hfcompress.training.objective import DistillationLoss
from hfcompress.training.signals import Signals


@dataclass
class JSDConfig(KLConfig):
    """Options of the generalised Jensen–Shannon divergence."""

    beta: Annotated[float, Interval(ge=0, le=1)] = option(0.5, help="0 is forward KL, 1 is reverse KL")


@register("loss", "jsd", JSDConfig)
class JSDLoss(DistillationLoss):
    """Generalised Jensen–Shannon divergence between the softened predictions.

    `T² · (β · KL(p ‖ m) + (1 − β) · KL(q ‖ m))` with `m = β · p + (1 − β) · q`, p the teacher's and q the student's
    predictions. It vanishes as β nears 0 or 1, where divided by β it nears the forward KL and divided by 1 − β the
    reverse KL; at the end points themselves those two divergences are returned.

    Source: Agarwal et al., *On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes*, 2024,
    equation 1, https://arxiv.org/abs/2306.13649.
    """

    config: JSDConfig
    needs_classes = True

    def forward(self, student: Signals, teacher: Signals) -> Tensor:
        """Return the divergence of each row, `(rows,)`."""
        temperature, beta = self.temperature, self.config.beta
        p, q = teacher.log_probabilities(temperature), student.log_probabilities(temperature)
        if beta in (0, 1):
            return temperature**2 * (kl_divergence(p, q) if beta == 0 else kl_divergence(q, p))
        mixture = torch.logaddexp(p + math.log(beta), q + math.log1p(-beta))
        return temperature**2 * (beta * kl_divergence(p, mixture) + (1 - beta) * kl_divergence(q, mixture))
