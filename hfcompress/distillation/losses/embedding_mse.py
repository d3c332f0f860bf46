"""Mean squared error on embeddings of whole texts."""

from __future__ import annotations

from torch import Tensor

from hfcompress.distillation.embeddings import EmbeddingLoss
from hfcompress.registry import register
from hfcompress.training.objective import LossConfig
from hfcompress.training.signals import Signals


@register("loss", "embedding_mse", LossConfig)
class EmbeddingMSELoss(EmbeddingLoss):
    """Mean squared difference of the embeddings of a text.

    `1/d · ‖W e_S − e_T‖²` for each text; W is learned with the student where the widths differ and not shipped, so that
    the student keeps a space of its own; where the widths agree there is none, and the student learns the teacher's.

    Source: Reimers and Gurevych, *Making Monolingual Sentence Embeddings Multilingual using Knowledge Distillation*,
    2020, section 2, https://arxiv.org/abs/2004.09813.
    """

    def forward(self, student: Signals, teacher: Signals) -> Tensor:
        """Return the mean over dimensions for each text, `(batch,)`."""
        ours, theirs = self.compared(student, teacher)
        return (ours - theirs).square().mean(-1)
