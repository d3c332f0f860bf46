"""Relational knowledge distillation: distances and angles among the texts of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from pydantic import FiniteFloat
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from hfcompress.config import option
from hfcompress.distillation.relations import dot_products
from hfcompress.registry import register
from hfcompress.training.objective import DistillationLoss, LossConfig
from hfcompress.training.signals import Signals, full_precision, present


@dataclass
class RKDConfig(LossConfig):
    """Options of relational knowledge distillation."""

    distance_weight: Annotated[FiniteFloat, Ge(0)] = option(1.0, help="weight of the distances between two texts")
    angle_weight: Annotated[FiniteFloat, Ge(0)] = option(2.0, help="weight of the angles among three texts")


@register("loss", "rkd", RKDConfig)
class RKDLoss(DistillationLoss):
    """Relational knowledge distillation: the texts of a batch lie to each other as the teacher's do.

    `λ_D · mean_(i,j) H(ψ_D) + λ_A · mean_(i,j,k) H(ψ_A)`, where H is the Huber loss (δ = 1) of the student's ψ against
    the teacher's: the distance `ψ_D = ‖e_i − e_j‖ / μ`, with μ the mean distance over the batch's pairs, and the angle
    `ψ_A = cos ∠(e_i, e_j, e_k)` at text j; texts of one pair or triplet are distinct. The value of a text is the mean
    over the pairs that begin with it and the triplets with it at the corner, so that the mean over texts is that over
    all pairs and triplets. The paper's weights, 25 for distances and 50 for angles, are in the ratio of these defaults.

    Nothing is projected: the widths may differ, and the student keeps a space of its own.

    It compares the texts of one micro-batch, so unlike the other losses it depends on how a batch is split: give
    it a large `per_device_train_batch_size`. One text alone costs nothing, two have a distance (1 after division by
    its mean) and no angle. Angles take memory that grows with the third power of the micro-batch.

    Source: Park, Kim, Lu and Cho, *Relational Knowledge Distillation*, 2019, section 3.2,
    https://arxiv.org/abs/1904.05068.
    """

    config: RKDConfig
    unit = "text"
    needs_embeddings = True

    def forward(self, student: Signals, teacher: Signals) -> Tensor:
        """Return the mean over each text's pairs and triplets, `(batch,)`."""
        (ours, our_angles), (theirs, their_angles) = (
            _relations(full_precision(present(signals.embeddings))) for signals in (student, teacher)
        )
        texts = len(ours)
        pairs, triplets = max(texts - 1, 1), max((texts - 1) * (texts - 2), 1)
        distance = smooth_l1_loss(ours, theirs, reduction="none").sum(-1) / pairs
        angle = smooth_l1_loss(our_angles, their_angles, reduction="none").sum((-1, -2)) / triplets
        return self.config.distance_weight * distance + self.config.angle_weight * angle


def _relations(embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distances of texts over their mean, `(batch, batch)`, and the cosines at each text, `(batch,) * 3`.

    A text's distance to itself is 0; so is its angle's cosine with a side of no length, and that of a side with itself.
    """
    sides = embeddings[None] - embeddings[:, None]
    squares = sides.square().sum(-1)
    apart = squares > 0
    # The root's gradient at 0 is infinite: there it is taken of 1, and the result cleared.
    lengths = torch.where(apart, squares, 1).sqrt()
    distances = lengths.masked_fill(~apart, 0)
    mean = distances.sum() / max(len(sides) * (len(sides) - 1), 1)
    directions = sides / lengths[..., None]
    same = torch.eye(len(sides), dtype=torch.bool, device=sides.device)
    cosines = dot_products(directions, directions).masked_fill(same, 0)
    return distances / torch.where(mean > 0, mean, 1), cosines
