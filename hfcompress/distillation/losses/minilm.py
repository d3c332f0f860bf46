"""MiniLM: the attention and the value relations of one layer."""

from __future__ import annotations

from torch import Tensor

from hfcompress.distillation.relations import RelationConfig, RelationLoss, relation_divergence
from hfcompress.distillation.structure import heads_in
from hfcompress.errors import Fault, RequestError
from hfcompress.modeling.projections import Projections
from hfcompress.registry import register
from hfcompress.training.objective import ModelPair
from hfcompress.training.signals import Signals


@register("loss", "minilm", RelationConfig)
class MiniLMLoss(RelationLoss):
    """Deep self-attention distillation: how the last layer's tokens attend, and how their values relate.

    `1/h · Σ_a KL(A_T,a ‖ A_S,a) + 1/h · Σ_a KL(V_T,a ‖ V_S,a)` at each token, over h heads, with
    `A = softmax(Q Kᵀ / √d)` and `V = softmax(V Vᵀ / √d)` over the real tokens. Widths may differ, numbers of heads may
    not. Keys and values that several query heads share count once for each of them.

    Attention is computed here from queries and keys, without dropout; what a model adds to it elsewhere is not in it,
    such as MPNet's and T5's position biases, rotary positions, or a decoder's blindness to what comes later.

    Source: Wang et al., *MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained
    Transformers*, 2020, sections 3.1 and 3.2, https://arxiv.org/abs/2002.10957.

    Raises:
        RequestError: The numbers of heads differ, a layer does not exist, or a config does not say the sizes.
    """

    def __init__(self, config: RelationConfig, pair: ModelPair) -> None:
        super().__init__(config, pair)
        (ours,), (theirs,) = self.student_layers, self.teacher_layers
        ours, theirs = heads_in(pair.student, ours), heads_in(pair.teacher, theirs)
        if ours != theirs:
            problem = f"compares head by head, and the student has {ours} attention heads, the teacher {theirs}."
            raise RequestError(Fault("losses.minilm", problem, "Use minilmv2."))

    def forward(self, student: Signals, teacher: Signals) -> Tensor:
        """Return the sum of both divergences at each token, `(tokens,)`."""
        own, other, mask = self.projections(student, teacher)
        (query, key, value), (their_query, their_key, their_value) = _ungrouped(own), _ungrouped(other)
        attention = relation_divergence((query, key), (their_query, their_key), mask)
        return attention + relation_divergence((value, value), (their_value, their_value), mask)


def _ungrouped(layer: Projections) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values with as many heads each: grouped keys and values are repeated."""
    groups = layer.query.shape[2] // layer.key.shape[2]
    return layer.query, layer.key.repeat_interleave(groups, dim=2), layer.value.repeat_interleave(groups, dim=2)
