"""A model's answer to a batch: its rows of logits, in parts where they are large, and what else losses read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from hfcompress.errors import Fault, RequestError
from hfcompress.modeling.projections import Projections
from hfcompress.tasks.base import Task
from hfcompress.tasks.sentence_similarity import mean_pool
from hfcompress.training.signals import Needs, Signals, without_padding

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.utils.generic import ModelOutput

    from hfcompress.training.heads import DeferredHead


class Rows(Protocol):
    """A teacher's rows of logits, given beside the student's part by part."""

    def beside(self, student: Signals, part: slice) -> tuple[Signals, Signals]:
        """Return the student's and the teacher's signals of some rows, over the same classes."""


@dataclass(frozen=True)
class LogitRows:
    """Rows of one model's logits.

    Args:
        values: Logits `(rows, classes)`, or what the head reads, `(rows, width)`.
        labels: The right class of each row, `(rows,)`; None when unknown.
        head: Turns what it reads into logits; None when `values` are logits.
    """

    values: Tensor
    labels: Tensor | None = None
    head: Callable[[Tensor], Tensor] | None = None

    def part(self, part: slice) -> Signals:
        """Return the signals of some rows."""
        values = self.values[part]
        logits = self.head(values) if self.head is not None else values
        return Signals(logits=logits, labels=None if self.labels is None else self.labels[part])

    def beside(self, student: Signals, part: slice) -> tuple[Signals, Signals]:
        """Return the student's signals as they are, and this model's.

        Vocabularies that are the same but padded to different sizes are compared on what they share.
        """
        own = self.part(part)
        if student.logits is None or own.logits is None or student.logits.shape[-1] == own.logits.shape[-1]:
            return student, own
        shared = min(student.logits.shape[-1], own.logits.shape[-1])
        return replace(student, logits=student.logits[..., :shared]), replace(own, logits=own.logits[..., :shared])


@dataclass(frozen=True)
class EnsembleRows:
    """Rows of several teachers' logits, averaged in probability space.

    Args:
        members: Each teacher's weight and rows; the weights sum to 1.
    """

    members: tuple[tuple[float, Rows], ...]

    def beside(self, student: Signals, part: slice) -> tuple[Signals, Signals]:
        """Return the student's signals, and the teachers' as one."""
        logits = tuple((weight, rows.beside(student, part)[1].logits) for weight, rows in self.members)
        together = Signals(members=tuple((weight, values) for weight, values in logits if values is not None))
        return student, replace(together, logits=together.log_probabilities())


@dataclass(frozen=True)
class Answer:
    """What one model said of one batch.

    Args:
        signals: All that losses on tokens and texts read.
        rows: The logits; None for a model that has none.
        length: Positions of the sequence that the hidden states have; 0 when nobody asked for them.
    """

    signals: Signals
    rows: Any = None
    length: int = 0


class Listener:
    """Runs around a model's forward pass and keeps what the losses need of it.

    Args:
        model: The model, not wrapped.
        task: Says which logits are compared.
        needs: What is asked beside the logits.
        head: Computes logits from what the model's own head reads, part by part; None leaves it to the model.
    """

    def __init__(self, model: PreTrainedModel, task: Task, needs: Needs, head: DeferredHead | None = None) -> None:
        self.model = model
        self.task = task
        self.needs = needs
        self.head = head
        self._projections: Mapping[int, Projections] = {}

    @property
    def options(self) -> dict[str, bool]:
        """What the forward pass is to be told."""
        hidden = self.needs.hidden_states or self.needs.embeddings
        named = {"output_hidden_states": hidden, "output_attentions": self.needs.attentions}
        return {name: True for name, value in named.items() if value}

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Keep queries, keys and values of the layers asked for, and the logits from being computed."""
        from hfcompress.modeling.projections import record_projections

        with ExitStack() as stack:
            if self.needs.projections:
                self._projections = stack.enter_context(record_projections(self.model, self.needs.projections))
            if self.head is not None:
                stack.enter_context(self.head.deferred())
            yield

    def answer(self, outputs: ModelOutput, batch: Mapping[str, Any]) -> Answer:
        """Return what the losses read of a forward pass's outputs."""
        values, labels = self.task.rows(outputs, batch)
        rows = LogitRows(values, labels, self.head) if values is not None else None
        if not self.needs.any:
            return Answer(Signals(), rows)
        hidden: Any = outputs.get("hidden_states") or outputs.get("encoder_hidden_states") or ()
        attentions = outputs.get("attentions") or outputs.get("encoder_attentions") or ()
        mask = _mask(batch, hidden, attentions, self._projections)
        projections, self._projections = self._projections, {}
        signals = Signals(
            hidden_states=without_padding(_given("hidden states", hidden), mask) if self.needs.hidden_states else (),
            embeddings=mean_of_tokens(hidden[-1], mask) if self.needs.embeddings else None,
            attentions=_given("attentions", attentions) if self.needs.attentions else (),
            projections=dict(projections),
            mask=mask,
        )
        return Answer(signals, rows, mask.size(1))


def use_eager_attention(model: PreTrainedModel) -> None:
    """Let a model compute attention probabilities; fast attention never forms them.

    Models of transformers 4.57 that cannot be switched, such as BERT, do so by themselves when asked for attentions.
    """
    if model._can_set_attn_implementation():
        model.set_attn_implementation("eager")


def _given(kind: str, states: Any) -> tuple[Tensor, ...]:
    """Return what a model was asked for.

    Raises:
        RequestError: It does not give it.
    """
    found = tuple(states)
    if not found or any(state is None for state in found):
        raise RequestError(
            Fault("losses", f"a model of the two gives no {kind}.", "Leave out the losses that read them.")
        )
    return found


def mean_of_tokens(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the real tokens' vectors, `(batch, width)`.

    Args:
        hidden: `(batch, seq, width)`, or an image's features `(batch, width, height, width)`.
        mask: `(batch, seq)`, True at real tokens.
    """
    return hidden.flatten(2).mean(-1) if hidden.ndim == 4 else mean_pool(hidden, mask)


def _mask(batch: Mapping[str, Any], hidden: Any, attentions: Any, projections: Mapping[int, Projections]) -> Tensor:
    """Return which positions are real tokens, `(batch, seq)`; all are where nothing is padded, as in images."""
    mask = batch.get("attention_mask")
    if mask is not None:
        return mask.bool()
    if "input_ids" in batch:
        return torch.ones_like(batch["input_ids"], dtype=torch.bool)
    if hidden and hidden[-1].ndim == 3:
        like = hidden[-1][..., 0]
    elif attentions:
        like = attentions[-1][:, 0, :, 0]
    elif projections:
        like = next(iter(projections.values())).query[:, :, 0, 0]
    else:
        like = next(iter(batch.values())).flatten(1)[:, :1]
    return torch.ones_like(like, dtype=torch.bool)
