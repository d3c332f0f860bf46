"""MiniLMv2: relations among queries, keys and values, whatever the numbers of heads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from annotated_types import Ge, MinLen
from torch import Tensor

from hfcompress.config import option
from hfcompress.distillation.relations import RelationConfig, RelationLoss, relation_divergence
from hfcompress.distillation.structure import head_size_in, heads_in, place
from hfcompress.errors import Fault, RequestError
from hfcompress.modeling.projections import Projections, attention_heads, key_value_heads
from hfcompress.registry import register
from hfcompress.training.objective import ModelPair
from hfcompress.training.signals import Signals

if TYPE_CHECKING:
    from transformers import PretrainedConfig

Relation = Literal["qq", "kk", "vv"]
SIDES: dict[str, str] = {"qq": "query", "kk": "key", "vv": "value"}


@dataclass
class MiniLMv2Config(RelationConfig):
    """Options of multi-head self-attention relation distillation."""

    relation_heads: Annotated[int, Ge(1)] | None = option(
        None, help="heads that queries, keys and values are split into anew (default: the student's attention heads)"
    )
    relations: Annotated[list[Relation], MinLen(1)] = option(
        ["qq", "kk", "vv"], help="among queries (qq), among keys (kk), among values (vv); weighted equally"
    )


@register("loss", "minilmv2", MiniLMv2Config)
class MiniLMv2Loss(RelationLoss):
    """Multi-head self-attention relation distillation: queries, keys and values, each among themselves.

    `1/|R| · Σ_r 1/A · Σ_a KL(R_T,r,a ‖ R_S,r,a)` at each token, over the relations r, each `softmax(X Xᵀ / √d)` over
    the real tokens with X the queries, keys or values. The heads are put side by side and split again into A relation
    heads of width d, so that the two models' numbers of heads and widths may differ. More relation heads than attention
    heads are finer: the paper takes 48 for a teacher of width 768. Of a large teacher it takes an upper middle layer
    instead of the last: set `teacher_layer`. As in minilm, nothing but padding is masked, and positions that a model
    adds elsewhere are not in it.

    Source: Wang, Bao, Huang, Dong and Wei, *MiniLMv2: Multi-Head Self-Attention Relation Distillation for Compressing
    Pretrained Transformers*, 2021, section 3, https://arxiv.org/abs/2012.15828.

    Raises:
        RequestError: The relation heads do not divide all widths, a layer does not exist, or a config does not say the
            sizes.
    """

    config: MiniLMv2Config

    def __init__(self, config: MiniLMv2Config, pair: ModelPair) -> None:
        super().__init__(config, pair)
        self.heads = config.relation_heads or heads_in(pair.student, self.student_layers[0])
        widths = [
            (f"the {who}'s {side}", width)
            for who, model, layers in (
                ("student", pair.student, self.student_layers),
                ("teacher", pair.teacher, self.teacher_layers),
            )
            for side, width in _widths(model, layers[0]).items()
            if side in {SIDES[name] for name in config.relations}
        ]
        wrong = [f"{name} width {width}" for name, width in widths if width % self.heads]
        if wrong:
            common = math.gcd(*(width for _, width in widths))
            allowed = ", ".join(str(number) for number in range(1, common + 1) if common % number == 0)
            problem = f"{self.heads} relation heads do not divide {', '.join(wrong)}."
            raise RequestError(Fault(place(self, "relation_heads"), problem, f"Allowed for this pair: {allowed}."))

    def forward(self, student: Signals, teacher: Signals) -> Tensor:
        """Return the mean over relations and relation heads at each token, `(tokens,)`."""
        own, other, mask = self.projections(student, teacher)
        sides = [SIDES[name] for name in self.config.relations]
        divergences = [relation_divergence(self._pair(own, side), self._pair(other, side), mask) for side in sides]
        return torch.stack(divergences).mean(0)

    def _pair(self, layer: Projections, side: str) -> tuple[Tensor, Tensor]:
        split = getattr(layer, side).flatten(2).unflatten(2, (self.heads, -1))
        return split, split


def _widths(config: PretrainedConfig, layer: int) -> dict[str, int]:
    """Return the width of all heads together of a layer's queries, keys and values."""
    heads, groups = heads_in(config, layer), attention_heads(config) // key_value_heads(config)
    size = head_size_in(config, layer)
    shared = heads // groups * size
    return {"query": heads * size, "key": shared, "value": shared}
