"""Signals: what a model said of a batch, in the form that losses read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hfcompress.modeling.projections import Projections


@dataclass(frozen=True)
class Signals:
    """What one model said of one batch; what no loss asked for is empty.

    Args:
        logits: `(rows, classes)`, in the student's label order. A row is what the task decides on: a text, a labelled
            token, a next token, one end of an answer. Of several teachers, the logarithm of their mean probability.
        hidden_states: The embeddings and every layer's output, each `(tokens, width)` with padding taken out.
        labels: The right class of each row, `(rows,)`, -100 where unknown; None when the task has none.
        embeddings: One vector a text, `(batch, width)`: the mean of its tokens in the last layer.
        attentions: Every layer's attention probabilities, each `(batch, heads, seq, seq)`.
        projections: Queries, keys and values by layer, counted from 0.
        mask: `(batch, seq)`, True at real tokens; None when no loss reads tokens.
        members: Each teacher's weight and logits, when there are several.
    """

    logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] = ()
    labels: Tensor | None = None
    embeddings: Tensor | None = None
    attentions: tuple[Tensor, ...] = ()
    projections: Mapping[int, Projections] = field(default_factory=dict)
    mask: Tensor | None = None
    members: tuple[tuple[float, Tensor], ...] = ()

    def log_probabilities(self, temperature: float = 1.0) -> Tensor:
        """Return log-probabilities `(rows, classes)` at a temperature, in float32 at least.

        Of several teachers it is the logarithm of the weighted mean of their probabilities at that temperature.
        """
        if not self.members:
            return log_softmax(present(self.logits), temperature)
        shares = [log_softmax(logits, temperature) + torch.tensor(weight).log() for weight, logits in self.members]
        return torch.logsumexp(torch.stack(shares), dim=0)


@dataclass(frozen=True)
class Needs:
    """What losses ask of one model beside its logits."""

    hidden_states: bool = False
    embeddings: bool = False
    attentions: bool = False
    projections: tuple[int, ...] = ()

    @property
    def any(self) -> bool:
        """Whether anything is asked beside the logits."""
        return self.hidden_states or self.embeddings or self.attentions or bool(self.projections)


@dataclass(frozen=True)
class Counts:
    """How many rows of logits, tokens, texts and labels a batch holds, each a scalar; what losses are divided by."""

    row: Tensor
    token: Tensor
    text: Tensor
    label: Tensor


def present(tensor: Tensor | None) -> Tensor:
    """Return a signal that a loss asked for.

    Raises:
        ValueError: It was not filled.
    """
    if tensor is None:
        raise ValueError("a loss reads a signal that it did not ask for")
    return tensor


def full_precision(tensor: Tensor) -> Tensor:
    """Return half precision as float32, and float32 and float64 as they are: what losses compute in."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def log_softmax(logits: Tensor, temperature: float) -> Tensor:
    """Return the log-probabilities of logits `(rows, classes)` at a temperature, in float32 at least."""
    return torch.log_softmax(full_precision(logits) / temperature, dim=-1)


def without_padding(hidden_states: tuple[Tensor, ...], mask: Tensor) -> tuple[Tensor, ...]:
    """Keep the vectors of real tokens.

    Args:
        hidden_states: Each `(batch, seq, width)`.
        mask: `(batch, seq)`, True at real tokens.

    Returns:
        Each `(tokens, width)`.
    """
    positions = mask.flatten().nonzero().squeeze(-1)
    return tuple(torch.index_select(states.flatten(0, 1), 0, positions) for states in hidden_states)
