"""Writes a teacher's answers to a batch into the arrays of a cache, in half precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hfcompress.errors import Fault, NonFiniteLossError, TeacherError
from hfcompress.tasks.language_modeling import in_chunks
from hfcompress.training import cache
from hfcompress.training.cache import Contents, ranges
from hfcompress.training.signals import full_precision
from hfcompress.training.top_k import likeliest_classes

if TYPE_CHECKING:
    from hfcompress.training.cache_plan import Source

_LARGEST = float(torch.finfo(torch.float16).max)


@torch.no_grad()
def write_batch(arrays: dict[str, np.ndarray], contents: Contents, source: Source, examples: np.ndarray) -> None:
    """Ask the teacher about some examples and write what it says.

    Args:
        arrays: The cache's, to write to.
        contents: What is kept.
        source: The teacher and the examples.
        examples: Which of them, by number.

    Raises:
        NonFiniteLossError: An answer holds NaN or infinity; the example is named.
        TeacherError: A number is beyond half precision.
    """
    batch = source.batch(examples)
    answer = source.ask(batch)
    (rows, row_owners), (tokens, token_owners) = (
        _places(arrays[name], examples) for name in (cache.ROW_OFFSETS, cache.TOKEN_OFFSETS)
    )
    if contents.logits in ("dense", "top-k"):
        _write_rows(arrays, contents, answer.rows, rows, row_owners)
    if contents.logits == "positions":
        values = answer.rows.part(slice(None)).logits
        # All starts come first, then all ends: (2, batch, seq).
        by_position = values.unflatten(0, (-1, len(examples))).permute(1, 2, 0)[source.mask(batch)]
        arrays[cache.POSITION_LOGITS][tokens] = halves(by_position, token_owners, "logits")
    for layer in contents.layers:
        states = answer.signals.hidden_states[layer]
        arrays[cache.hidden_name(layer)][tokens] = halves(states, token_owners, "hidden states")
    if contents.embedding_width:
        arrays[cache.EMBEDDINGS][examples] = halves(answer.signals.embeddings, examples, "embeddings")


def _places(offsets: np.ndarray, examples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where the parts of examples stand, one after the other, and which example each is of."""
    counts = offsets[examples + 1] - offsets[examples]
    return ranges(offsets[examples], counts), np.repeat(examples, counts)


def _write_rows(
    arrays: dict[str, np.ndarray], contents: Contents, rows: Any, places: np.ndarray, owners: np.ndarray
) -> None:
    for part in in_chunks(len(places), contents.classes):
        logits = rows.part(part).logits
        if contents.logits == "dense":
            arrays[cache.LOGITS][places[part]] = halves(logits, owners[part], "logits")
            continue
        _check(logits, owners[part], "logits")
        values, indices, rest = likeliest_classes(logits, contents.top_k, contents.temperature)
        arrays[cache.TOP_VALUES][places[part]] = halves(values, owners[part], "logits")
        arrays[cache.TOP_INDICES][places[part]] = indices.cpu().numpy()
        arrays[cache.TOP_REST][places[part]] = halves(rest, owners[part], "logits")


def halves(values: Tensor | None, owners: np.ndarray, what: str) -> np.ndarray:
    """Return numbers in half precision; what is below its range is a masked class, and becomes its lowest.

    Args:
        values: `(n, …)`.
        owners: Which example each is of, `(n,)`.
        what: What they are, for messages.

    Raises:
        NonFiniteLossError: Some are NaN or infinite.
        TeacherError: Some are above the range; or below, unless they are logits.
    """
    assert values is not None  # noqa: S101
    values = full_precision(values)
    _check(values, owners, what)
    beyond = values > _LARGEST if what == "logits" else values.abs() > _LARGEST
    if beyond.any():
        example = owners[_first(beyond)]
        problem = (
            f"its {what} for example {example} reach {values[beyond].abs().max():g}, beyond half precision (65504)."
        )
        raise TeacherError(Fault("teacher", problem, "Train with the teacher itself."))
    return values.clamp(min=-_LARGEST).half().cpu().numpy()


def _check(values: Tensor, owners: np.ndarray, what: str) -> None:
    bad = ~values.isfinite()
    if bad.any():
        raise NonFiniteLossError(
            f"The teacher's {what} for example {owners[_first(bad)]} (counted from 0) hold NaN or infinity: "
            "look at that example, or run the teacher in full precision."
        )


def _first(bad: Tensor) -> int:
    return int(bad.flatten(1).any(-1).nonzero()[0]) if bad.ndim > 1 else int(bad.nonzero()[0])
