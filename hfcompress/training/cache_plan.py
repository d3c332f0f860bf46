"""What a cache will hold: found by asking the teacher twice and counting the examples' rows and tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from hfcompress.data import TEACHER_PREFIX
from hfcompress.errors import Fault, TeacherError
from hfcompress.tasks.question_answering import POSITIONS
from hfcompress.training import cache
from hfcompress.training.answers import Answer
from hfcompress.training.cache import Contents, Header, offsets
from hfcompress.training.cache_identity import CacheIdentity
from hfcompress.training.cache_losses import TOP_K_LOSSES, temperature_of, top_k_faults
from hfcompress.training.teacher import ModelTeacher

if TYPE_CHECKING:
    from datasets import Dataset

    from hfcompress.tasks.base import Collator
    from hfcompress.training.objective import Objective

_DENSE = 1000
"""Up to so many classes all logits are kept: 2 kB a row, and every loss on logits works at every temperature."""

_TOP_K = 32
"""Of more, this many: 130 bytes a row, where all 30,522 logits of BERT take 61 kB; a million rows take 0.13 GB, not 61.
What the teacher thinks of the classes beyond its 32nd guess counts as one class, with its right mass."""

_COUNTED = 64
"""Examples that are padded together to be counted."""


@dataclass
class CacheSettings:
    """How a cache is built.

    Args:
        batch_size: Examples that the teacher answers at once.
        top_k: Keep the logits of the likeliest classes and the mass of the rest (default: 32 of more than 1,000,
            else all).
    """

    batch_size: Annotated[int, Ge(1)] = 32
    top_k: Annotated[int, Ge(1)] | None = None


@dataclass
class Source:
    """What answers are computed from.

    Args:
        teacher: Ready to be asked, in its own order of labels.
        rows: Encoded examples.
        collate: Pads a batch of them.
        device: Where the teacher is.
        columns: What tells examples apart.
        digests: Of each example.
        layers: Hidden states to keep; None for all, if any.
    """

    teacher: ModelTeacher
    rows: Dataset
    collate: Collator
    device: torch.device
    columns: tuple[str, ...]
    digests: np.ndarray
    layers: tuple[int, ...] | None

    @property
    def prefix(self) -> str:
        """What stands before the names of the teacher's columns."""
        return "" if self.teacher.shares_tokens else TEACHER_PREFIX

    def padded(self, examples: np.ndarray) -> dict[str, Any]:
        """Return some examples as one batch."""
        return self.collate(self.rows.__getitems__(examples.tolist()))

    def batch(self, examples: np.ndarray) -> dict[str, Any]:
        """Return some examples as one batch, on the teacher's device."""
        batch = self.padded(examples)
        return {name: value.to(self.device) if isinstance(value, Tensor) else value for name, value in batch.items()}

    def ask(self, batch: Mapping[str, Any]) -> Answer:
        """Ask the teacher."""
        return self.teacher.ask(batch)

    def mask(self, batch: Mapping[str, Any]) -> Tensor | None:
        """Return which positions are tokens that the teacher reads, `(batch, seq)`; None for images."""
        mask = batch.get(f"{self.prefix}attention_mask")
        if mask is not None:
            return mask.bool()
        tokens = batch.get(f"{self.prefix}input_ids")
        return None if tokens is None else torch.ones_like(tokens, dtype=torch.bool)

    def batches(self, token_offsets: np.ndarray, size: int) -> list[np.ndarray]:
        """Return which examples are answered together: those of about the same length, the longest first."""
        order = np.argsort(-np.diff(token_offsets), kind="stable")
        return [order[start : start + size] for start in range(0, len(order), size)]


def plan(
    source: Source, objective: Objective, identity: CacheIdentity, settings: CacheSettings
) -> tuple[Header, dict[str, np.ndarray]]:
    """Work out a cache's files.

    Returns:
        The header, and the arrays whose contents are known before the teacher is asked for more.

    Raises:
        TeacherError: There is nothing to cache, batches are drawn at random, or losses do not go with few classes.
    """
    if not len(source.rows):
        raise TeacherError(Fault("train_dataset", "is empty."))
    rows, tokens = _counts(source)
    longest = np.array([int(tokens.argmax())])
    _require_same_inputs(source, longest)
    answer = source.ask(source.batch(longest))
    if not tokens.any():  # images
        tokens = np.full(len(tokens), max(1, answer.length))
    contents = _contents(answer, source, objective, settings)
    shapes, dtypes = _arrays(contents, len(source.rows), int(rows.sum()), int(tokens.sum()), _per_example(rows))
    shapes[cache.PROGRESS], dtypes[cache.PROGRESS] = (-(-len(source.rows) // settings.batch_size),), "uint8"
    task = source.teacher.task
    fixed = (task.name, task.names_labels, source.columns, source.prefix, settings.batch_size)
    header = Header(identity, contents, *fixed, shapes=shapes, dtypes=dtypes)
    known = {cache.DIGESTS: source.digests, cache.ROW_OFFSETS: offsets(rows), cache.TOKEN_OFFSETS: offsets(tokens)}
    return header, known


def _counts(source: Source) -> tuple[np.ndarray, np.ndarray]:
    """Return how many rows of logits and how many tokens each example has; no tokens for images."""
    total = len(source.rows)
    rows, tokens = np.zeros(total, dtype=np.int64), np.zeros(total, dtype=np.int64)
    for start in range(0, total, _COUNTED):
        places = np.arange(start, min(start + _COUNTED, total))
        batch = source.padded(places)
        mask = source.mask(batch)
        if mask is not None:
            tokens[start : start + len(places)] = mask.sum(1).numpy()
        for row, place in enumerate(places):
            alone = {name: value[row : row + 1] for name, value in batch.items()}
            rows[place] = int(source.teacher.task.count_rows(alone))
    return rows, tokens


def _per_example(rows: np.ndarray) -> int:
    return int(rows[0]) if (rows == rows[0]).all() else 0


def _require_same_inputs(source: Source, examples: np.ndarray) -> None:
    """Make sure that a batch is the same each time.

    Raises:
        TeacherError: It is not.
    """
    one, other = source.batch(examples), source.batch(examples)
    differing = [
        name
        for name, value in one.items()
        if isinstance(value, Tensor) and not torch.equal(value.nan_to_num(), other[name].nan_to_num())
    ]
    if differing:
        problem = (
            f"the data or its collator draws {', '.join(differing)} at random, so the cached answers are to others."
        )
        raise TeacherError(Fault("collator", problem, "Draw once, before; or train with the teacher itself."))


def _contents(answer: Answer, source: Source, objective: Objective, settings: CacheSettings) -> Contents:
    signals = answer.signals
    layers: tuple[int, ...] = ()
    if signals.hidden_states:
        layers = source.layers if source.layers is not None else tuple(range(len(signals.hidden_states)))
    widths = {signals.hidden_states[layer].shape[-1] for layer in layers}
    if len(widths) > 1:
        raise TeacherError(Fault("teacher", "its hidden states differ in width and cannot be cached."))
    kept: dict[str, Any] = {"layers": layers, "hidden_width": widths.pop() if widths else 0}
    kept["embedding_width"] = 0 if signals.embeddings is None else signals.embeddings.shape[-1]
    classes = _classes(answer)
    if classes == 0:
        return Contents("none", **kept)
    if POSITIONS[0] in source.teacher.task.label_columns:
        return Contents("positions", **kept)
    top_k = settings.top_k if settings.top_k is not None else _TOP_K if classes > _DENSE else 0
    if not 0 < top_k < classes:
        return Contents("dense", classes, **kept)
    if not objective.row_terms:
        return Contents("none", **kept)
    faults = top_k_faults(objective)
    if faults:
        raise TeacherError(*faults)
    temperature = next(temperature_of(loss) for name, loss in objective.row_terms.items() if name in TOP_K_LOSSES)
    return Contents("top-k", classes, top_k, float(temperature or 1.0), **kept)


def _classes(answer: Answer) -> int:
    """Return how many classes the logits have, 0 where there are none."""
    if answer.rows is None:
        return 0
    with torch.no_grad():
        return int(answer.rows.part(slice(0, 1)).logits.shape[-1])


def _arrays(
    contents: Contents, examples: int, rows: int, tokens: int, per_example: int
) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Return shapes and types of the files."""
    found: dict[str, tuple[tuple[int, ...], str]] = {
        cache.DIGESTS: ((examples,), "uint64"),
        cache.ROW_OFFSETS: ((examples + 1,), "int64"),
        cache.TOKEN_OFFSETS: ((examples + 1,), "int64"),
    }
    if contents.logits == "dense":
        found[cache.LOGITS] = ((rows, contents.classes), "float16")
    if contents.logits == "positions":
        found[cache.POSITION_LOGITS] = ((tokens, per_example), "float16")
    if contents.logits == "top-k":
        found[cache.TOP_VALUES] = ((rows, contents.top_k), "float16")
        found[cache.TOP_INDICES] = ((rows, contents.top_k), "uint16" if contents.classes <= 2**16 else "int32")
        found[cache.TOP_REST] = ((rows,), "float16")
    for layer in contents.layers:
        found[cache.hidden_name(layer)] = ((tokens, contents.hidden_width), "float16")
    if contents.embedding_width:
        found[cache.EMBEDDINGS] = ((examples, contents.embedding_width), "float16")
    return {name: shape for name, (shape, _) in found.items()}, {name: kind for name, (_, kind) in found.items()}
