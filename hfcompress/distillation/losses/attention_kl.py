"""KL divergence of attention probabilities of mapped layers."""

from __future__ import annotations

import torch
from torch import Tensor

from hfcompress.distillation.attention import AttentionConfig, AttentionLoss
from hfcompress.registry import register
from hfcompress.training.signals import Signals

SMALLEST = 1e-5
"""Probabilities below count as this: the gradient, teacher's over student's, must not overflow in half precision."""


@register("loss", "attention_kl", AttentionConfig)
class AttentionKLLoss(AttentionLoss):
    """KL divergence of the student's attention from the teacher's, in mapped layers.

    `1/M · Σ_m 1/h · Σ_a KL(A_T^g(m),a ‖ A_S^m,a)` at each token, over M mapped pairs and h heads, where
    `KL(p ‖ q) = Σ_k p_k · log(p_k / q_k) − p_k + q_k` over the real tokens k. Of distributions the last two terms add
    up to 0; they keep it from being negative where dropout or the floor of 1e-5 makes the sums differ from 1.

    Source: Wang et al., *MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained
    Transformers*, 2020, section 3.1, https://arxiv.org/abs/2002.10957, here for more layers than the last.
    """

    def forward(self, student: Signals, teacher: Signals) -> Tensor:
        """Return the mean over pairs and heads at each token, `(tokens,)`."""
        pairs = self.compared(student, teacher)
        return torch.stack([_divergence(theirs, ours).mean(-1) for ours, theirs in pairs]).mean(0)


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    p, q = p.clamp(min=SMALLEST), q.clamp(min=SMALLEST)
    return (p * (p / q).log() - p + q).sum(-1)
