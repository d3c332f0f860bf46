"""Mean squared error on attention probabilities of mapped layers."""

from __future__ import annotations

import torch
from torch import Tensor

from hfcompress.distillation.attention import AttentionConfig, AttentionLoss, keys_of
from hfcompress.registry import register
from hfcompress.training.signals import Signals, present


@register("loss", "attention_mse", AttentionConfig)
class AttentionMSELoss(AttentionLoss):
    """Mean squared difference of the attention of mapped layers.

    `1/M · Σ_m 1/h · Σ_a 1/n · ‖A_S^m,a − A_T^g(m),a‖²` at each token, over M mapped pairs, h heads and the n real
    tokens that it can look at. The paper compares the scores before softmax; transformers returns the probabilities
    after it, so those are compared.

    Source: Jiao et al., *TinyBERT: Distilling BERT for Natural Language Understanding*, 2020, equation 7,
    https://arxiv.org/abs/1909.10351.
    """

    def forward(self, student: Signals, teacher: Signals) -> Tensor:
        """Return the mean over pairs, heads and real keys at each token, `(tokens,)`."""
        pairs = self.compared(student, teacher)
        sums = torch.stack([(ours - theirs).square().sum(-1).mean(-1) for ours, theirs in pairs]).mean(0)
        return sums / keys_of(present(student.mask)).sum(-1)
