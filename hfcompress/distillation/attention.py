"""What losses on attention probabilities share: which layers are compared, head by head or the heads' mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from hfcompress.config import option
from hfcompress.distillation.layer_maps import map_layers
from hfcompress.distillation.structure import check_sizes, heads_in, place
from hfcompress.errors import Fault, RequestError
from hfcompress.training.layer_maps import is_name
from hfcompress.training.objective import DistillationLoss, LossConfig, ModelPair
from hfcompress.training.signals import Signals, full_precision, present, without_padding


@dataclass
class AttentionConfig(LossConfig):
    """Options of the losses on attention probabilities."""

    heads: Literal["each", "mean"] = option(
        "each", help="compare head by head, or the mean over heads where the models have different numbers of heads"
    )


class AttentionLoss(DistillationLoss):
    """Base of the losses on attention probabilities.

    Hidden state m of the layer map is the output of layer m, and so stands for layer m's attention; the embeddings,
    hidden state 0, have none. Named maps leave the embeddings out.

    transformers returns the probabilities, not the scores before softmax, and while a model trains it returns them
    after dropout: a student with `attention_probs_dropout_prob` above 0 is compared with that noise.

    Args:
        config: The loss's options.
        pair: Both models' configs and the layer map.

    Raises:
        RequestError: The layer map pairs embeddings or a layer that does not exist, the numbers of heads differ, or a
            config does not say them.
    """

    unit = "token"
    needs_attentions = True

    def __init__(self, config: Any, pair: ModelPair) -> None:
        super().__init__(config, pair)
        check_sizes(pair, "attention", "num_hidden_layers", "num_attention_heads")
        self.pairs = _attention_pairs(pair)
        heads = [(heads_in(pair.student, ours), heads_in(pair.teacher, theirs)) for ours, theirs in self.pairs]
        unequal = next((both for both in heads if both[0] != both[1]), None)
        if config.heads == "each" and unequal:
            ours, theirs = unequal
            problem = f"cannot be each: the student has {ours} attention heads, the teacher {theirs}."
            raise RequestError(Fault(place(self, "heads"), problem, 'Set it to "mean", or use minilmv2.'))

    def compared(self, student: Signals, teacher: Signals) -> list[tuple[Tensor, Tensor]]:
        """Return what each real token pays attention to in mapped layers, each `(tokens, heads, seq)`, 0 at padding."""
        mask = present(student.mask)
        return [
            (self._rows(student.attentions[ours], mask), self._rows(teacher.attentions[theirs], mask))
            for ours, theirs in self.pairs
        ]

    def _rows(self, attention: Tensor, mask: Tensor) -> Tensor:
        (rows,) = without_padding((attention.transpose(1, 2),), mask)
        rows = full_precision(rows).masked_fill(~keys_of(mask)[:, None], 0)
        return rows.mean(1, keepdim=True) if self.config.heads == "mean" else rows


def keys_of(mask: Tensor) -> Tensor:
    """Return which keys are real for each real token: `(tokens, seq)` from a mask `(batch, seq)`."""
    (keys,) = without_padding((mask[:, None].expand(-1, mask.shape[1], -1),), mask)
    return keys


def _attention_pairs(pair: ModelPair) -> list[tuple[int, int]]:
    """Return pairs of attentions, counted from 0, for the layer map's pairs of hidden states."""
    pairs = map_layers(pair.layer_map, pair.student.num_hidden_layers, pair.teacher.num_hidden_layers)
    if is_name(pair.layer_map):
        pairs = [(ours, theirs) for ours, theirs in pairs if ours > 0 and theirs > 0]
    faults = [
        Fault("layer_map", f"{ours}:{theirs} names the embeddings (0), which have no attention.", "Leave it out.")
        for ours, theirs in pairs
        if 0 in (ours, theirs)
    ]
    if faults:
        raise RequestError(*faults)
    return [(ours - 1, theirs - 1) for ours, theirs in pairs]
