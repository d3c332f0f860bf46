"""Mean squared error on hidden states, through a learned projection where the widths differ."""

from __future__ import annotations

import torch
from torch import Tensor

from hfcompress.distillation.hidden import HiddenStateLoss
from hfcompress.registry import register
from hfcompress.training.objective import LossConfig
from hfcompress.training.signals import Signals


@register("loss", "hidden_mse", LossConfig)
class HiddenMSELoss(HiddenStateLoss):
    """Mean squared difference of the hidden states of mapped layers.

    `1/M · Σ_m 1/d · ‖H_S^m W_m − H_T^g(m)‖²` at each token, over M mapped pairs; W_m is learned with the student where
    the widths differ, and absent where they agree.

    Source: Jiao et al., *TinyBERT: Distilling BERT for Natural Language Understanding*, 2020, equations 8 and 9,
    https://arxiv.org/abs/1909.10351.
    """

    def forward(self, student: Signals, teacher: Signals) -> Tensor:
        """Return the mean over pairs and dimensions at each token, `(tokens,)`."""
        pairs = self.mapped(student, teacher)
        return torch.stack([(ours - theirs).square().mean(-1) for ours, theirs in pairs]).mean(0)
