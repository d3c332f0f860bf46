"""Cosine distance of hidden states: their direction counts, their length does not."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from hfcompress.distillation.hidden import HiddenStateLoss
from hfcompress.registry import register
from hfcompress.training.objective import LossConfig
from hfcompress.training.signals import Signals


@register("loss", "hidden_cosine", LossConfig)
class HiddenCosineLoss(HiddenStateLoss):
    """One minus the cosine of the hidden states of mapped layers.

    `1/M · Σ_m (1 − cos(H_S^m W_m, H_T^g(m)))` at each token, over M mapped pairs; W_m is learned with the student where
    the widths differ, and absent where they agree.

    Source: Sanh, Debut, Chaumond and Wolf, *DistilBERT, a distilled version of BERT*, 2019, section 3,
    https://arxiv.org/abs/1910.01108.
    """

    def forward(self, student: Signals, teacher: Signals) -> Tensor:
        """Return the mean over pairs at each token, `(tokens,)`."""
        pairs = self.mapped(student, teacher)
        return torch.stack([1 - cosine_similarity(ours, theirs, dim=-1) for ours, theirs in pairs]).mean(0)
