"""What losses on embeddings of whole texts share: the projection between their widths."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hfcompress.distillation.structure import check_sizes, projection
from hfcompress.modeling.projections import hidden_width
from hfcompress.training.objective import DistillationLoss, ModelPair
from hfcompress.training.signals import Signals, full_precision, present


class EmbeddingLoss(DistillationLoss):
    """Base of the losses that compare a text's embedding with the teacher's of the same text.

    Where the widths differ the student's is projected onto the teacher's width. The projection is learned for the loss
    and not shipped: what ships is the student's own space, in which only its own embeddings can be compared. A student
    of the teacher's width learns the teacher's space itself.

    Args:
        config: The loss's options.
        pair: Both models' configs.

    Raises:
        RequestError: A config does not say the model's width.
    """

    unit = "text"
    needs_embeddings = True

    def __init__(self, config: Any, pair: ModelPair) -> None:
        super().__init__(config, pair)
        check_sizes(pair, "embeddings", "hidden_size")
        self.projection = projection(hidden_width(pair.student), hidden_width(pair.teacher))

    def compared(self, student: Signals, teacher: Signals) -> tuple[Tensor, Tensor]:
        """Return the embeddings to compare, the student's projected: each `(batch, teacher width)`, not halved."""
        ours = self.projection(full_precision(present(student.embeddings)))
        return full_precision(ours), full_precision(present(teacher.embeddings))
