"""What flows through a float graph on calibration rows: the values that enter products, without those of padding."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hfcompress.errors import DataError, Fault
from hfcompress.quantization.convert import Batches
from hfcompress.quantization.files import load_graph
from hfcompress.quantization.graph import scopes
from hfcompress.quantization.weights import Candidate, candidates, share_tied

if TYPE_CHECKING:
    import onnxruntime

_MASK = "attention_mask"
_MOST_BYTES = 2**28
"""Bytes of covariances that are gathered at a time."""


def require_rows(batches: Batches | None, what: str) -> Batches:
    """Return calibration rows.

    Raises:
        DataError: There are none.
    """
    if not batches:
        problem = f"{what} measures what flows through the model, and there are no rows to measure on."
        raise DataError(Fault("calibration", problem, "Name some with --dataset, or data: in a recipe."))
    return batches


def products(source: Path) -> list[Candidate]:
    """Return the products and convolutions of a file's own graph; those inside branches cannot be observed."""
    every = list(scopes(load_graph(source).graph))
    found = share_tied(candidates(every)[0], source.parent)
    return [item for item in found if item.kind != "Gather" and item.scope is every[0]]


def observe(source: Path, names: Collection[str], batches: Batches) -> Iterator[dict[str, np.ndarray]]:
    """Yield what values of a graph are, a batch at a time: each with the tokens that are padding left out.

    Args:
        source: The float graph.
        names: The values.
        batches: What the graph takes.

    Yields:
        By name, `(tokens, width)` where the value has a place for each token, else as it is.

    Raises:
        DataError: A value is not finite.
    """
    import onnx

    from hfcompress.modeling.onnx_model import start_session

    model = load_graph(source)  # its large weights refer to the file itself, which is why the trial lies beside it
    given = [name for name in names if name in {value.name for value in model.graph.input}]
    inner = [name for name in names if name not in given]
    there = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner if name not in there)
    trial = source.with_name(f"{uuid.uuid4().hex}.onnx")
    try:
        onnx.save(model, str(trial))
        session = start_session(trial)
        for batch in batches:
            found = run(session, inner or [session.get_outputs()[0].name], batch)
            values = dict(zip(inner, found, strict=False))
            values |= {name: batch[name] for name in given}
            yield {name: _real(value, batch.get(_MASK), name) for name, value in values.items()}
    finally:
        trial.unlink(missing_ok=True)


def run(session: onnxruntime.InferenceSession, names: list[str], batch: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Return values of a graph for one batch.

    Raises:
        DataError: The graph cannot take it.
    """
    try:
        values: list[np.ndarray] = session.run(names, dict(batch))
        return values
    # onnxruntime's own exceptions share no base class but this.
    except Exception as error:
        sizes = ", ".join(f"{name} {value.shape}" for name, value in batch.items())
        reason = " ".join(str(error).split())[:300].rstrip(".")
        fix = "Give no longer texts, or images of another size, than the model was made for (--max-length)."
        raise DataError(Fault("calibration", f"the graph cannot run on {sizes}: {reason}.", fix)) from error


def _real(value: np.ndarray, mask: np.ndarray | None, name: str) -> np.ndarray:
    """Leave out what stands at padding.

    Raises:
        DataError: Something is not finite.
    """
    if mask is not None and value.ndim >= 3 and value.shape[:2] == mask.shape:
        value = value[mask.astype(bool)]
    elif value.ndim == 3:
        value = value.reshape(-1, value.shape[-1])
    if not np.isfinite(value).all():
        problem = f"on these rows {name} holds numbers that are not finite: nothing can be measured."
        raise DataError(Fault("calibration", problem, "Give rows that the float model answers with numbers."))
    return value


def largest_inputs(source: Path, names: Collection[str], batches: Batches) -> dict[str, np.ndarray]:
    """Return the largest magnitude of each column of some values, `(width,)`."""
    found: dict[str, np.ndarray] = {}
    for values in observe(source, names, batches):
        for name, value in values.items():
            peak = np.abs(value).reshape(-1, value.shape[-1]).max(axis=0, initial=0)
            found[name] = np.maximum(found.get(name, 0), peak)
    return found


def covariances(source: Path, names: Collection[str], batches: Batches) -> Iterator[tuple[str, np.ndarray]]:
    """Yield `XᵀX / tokens` of some values, `(width, width)`, as many at a time as memory has room for."""
    widths = {name: value.shape[-1] for name, value in next(observe(source, names, batches[:1]), {}).items()}
    for group in _groups(widths):
        sums = {name: np.zeros((widths[name], widths[name]), np.float32) for name in group}
        tokens = 0
        for values in observe(source, group, batches):
            for name, value in values.items():
                flat = value.reshape(-1, widths[name])
                sums[name] += flat.T @ flat
            tokens += len(flat)
        yield from ((name, total / max(tokens, 1)) for name, total in sums.items())


def _groups(widths: dict[str, int]) -> Iterator[list[str]]:
    group: list[str] = []
    size = 0
    for name, width in widths.items():
        if group and size + 4 * width**2 > _MOST_BYTES:
            yield group
            group, size = [], 0
        group.append(name)
        size += 4 * width**2
    if group:
        yield group
