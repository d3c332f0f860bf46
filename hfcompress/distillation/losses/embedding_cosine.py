"""Cosine distance of embeddings of whole texts: for students whose embeddings are compared by their direction."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cosine_similarity

from hfcompress.distillation.embeddings import EmbeddingLoss
from hfcompress.registry import register
from hfcompress.training.objective import LossConfig
from hfcompress.training.signals import Signals


@register("loss", "embedding_cosine", LossConfig)
class EmbeddingCosineLoss(EmbeddingLoss):
    """One minus the cosine of the embeddings of a text.

    `1 − cos(W e_S, e_T)` for each text; W is learned with the student where the widths differ and not shipped, so that
    the student keeps a space of its own; where the widths agree there is none, and the student learns the teacher's.

    Source: Sanh, Debut, Chaumond and Wolf, *DistilBERT, a distilled version of BERT*, 2019, section 3,
    https://arxiv.org/abs/1910.01108, there for hidden states.
    """

    def forward(self, student: Signals, teacher: Signals) -> Tensor:
        """Return the distance for each text, `(batch,)`."""
        ours, theirs = self.compared(student, teacher)
        return 1 - cosine_similarity(ours, theirs, dim=-1)
