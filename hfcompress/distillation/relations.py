"""What losses on relations share: dot products of tokens, as distributions over the real ones, and their divergence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor

from hfcompress.config import option
from hfcompress.distillation.losses.kl import kl_divergence
from hfcompress.distillation.structure import check_sizes, place
from hfcompress.errors import Fault, RequestError
from hfcompress.modeling.projections import Projections
from hfcompress.training.objective import DistillationLoss, LossConfig, ModelPair
from hfcompress.training.signals import Signals, full_precision, present, without_padding


@dataclass
class RelationConfig(LossConfig):
    """Options of the losses on relations between queries, keys and values."""

    student_layer: Annotated[int, Ge(1)] | None = option(None, help="the student's layer, from 1 (default: its last)")
    teacher_layer: Annotated[int, Ge(1)] | None = option(None, help="the teacher's layer, from 1 (default: its last)")


class RelationLoss(DistillationLoss):
    """Base of the losses on relations of one layer's queries, keys and values.

    Args:
        config: The loss's options.
        pair: Both models' configs; the layer map is not read.

    Raises:
        RequestError: A layer does not exist, or a config does not say the model's sizes.
    """

    unit = "token"

    def __init__(self, config: Any, pair: ModelPair) -> None:
        super().__init__(config, pair)
        check_sizes(pair, "relations", "num_hidden_layers", "num_attention_heads", "hidden_size")
        ours, theirs = pair.student.num_hidden_layers, pair.teacher.num_hidden_layers
        wanted = [("student", config.student_layer or ours, ours), ("teacher", config.teacher_layer or theirs, theirs)]
        faults = [
            Fault(place(self, f"{who}_layer"), f"the {who} has no layer {layer}.", f"Allowed: 1 to {most}.")
            for who, layer, most in wanted
            if layer > most
        ]
        if faults:
            raise RequestError(*faults)
        self.student_layers, self.teacher_layers = ((layer - 1,) for _, layer, _ in wanted)

    def projections(self, student: Signals, teacher: Signals) -> tuple[Projections, Projections, Tensor]:
        """Return the student's and the teacher's queries, keys and values, and the mask."""
        (ours,), (theirs,) = self.student_layers, self.teacher_layers
        return student.projections[ours], teacher.projections[theirs], present(student.mask)


def dot_products(vectors: Tensor, others: Tensor) -> Tensor:
    """Return the dot products of `(…, n, size)` with `(…, m, size)`, `(…, n, m)`.

    They are float32 at least, also where autocast would halve them.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        return full_precision(vectors) @ full_precision(others).transpose(-1, -2)


def relation(vectors: Tensor, others: Tensor, mask: Tensor) -> Tensor:
    """Return how each token relates to the real tokens: the logarithm of `softmax(a bᵀ / √size)`.

    Args:
        vectors: `(batch, seq, heads, size)`, for example queries.
        others: The same shape, for example keys.
        mask: `(batch, seq)`, True at real tokens.

    Returns:
        Log-probabilities `(batch, seq, heads, seq)`, 0 at padded keys.
    """
    # Padded vectors are cleared: even times a gradient of 0, infinity or NaN in them would spoil the others' gradient.
    padding = ~mask[:, :, None, None]
    vectors, others = (full_precision(tensor).masked_fill(padding, 0).transpose(1, 2) for tensor in (vectors, others))
    scores = dot_products(vectors, others) / vectors.shape[-1] ** 0.5
    padded_keys = ~mask[:, None, None, :]
    # The lowest finite number, not −∞: a text of nothing but padding must not give NaN.
    scores = scores.masked_fill(padded_keys, torch.finfo(scores.dtype).min)
    return torch.log_softmax(scores, dim=-1).masked_fill(padded_keys, 0).transpose(1, 2)


def relation_divergence(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
    """Return KL(teacher ‖ student) of two relations at each real token, the mean over heads.

    Args:
        student: The two sides of the student's relation, each `(batch, seq, heads, size)`.
        teacher: The teacher's, with as many heads; the sizes may differ.
        mask: `(batch, seq)`, True at real tokens.

    Returns:
        `(tokens,)`
    """
    theirs, ours = without_padding((relation(*teacher, mask), relation(*student, mask)), mask)
    # Padded keys are 0 on both sides and add exp(0) · (0 − 0).
    return kl_divergence(theirs, ours).mean(-1)
