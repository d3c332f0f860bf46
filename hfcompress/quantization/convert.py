"""One float graph into one quantized file: what every method does around its own arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hfcompress.errors import Fault, ModelError, RequestError, closest
from hfcompress.quantization.files import bytes_on_disk, load_graph, save_graph
from hfcompress.quantization.graph import scopes
from hfcompress.quantization.nodes import QuantizedNodes, refuse_larger
from hfcompress.quantization.rewriter import Rewriter, Write
from hfcompress.quantization.weights import Candidate, candidates, share_tied, weight_bytes

if TYPE_CHECKING:
    import onnx

FAMILY = "onnx_quantization"
"""The family of these methods in the list of methods."""

Batches = Sequence[Mapping[str, np.ndarray]]
"""Rows to calibrate on: what a graph takes, by input, a batch at a time."""

ChooseWriter = Callable[[Candidate], Write | None]
"""How a node is written; None leaves it in float."""

_QUANTIZED = {
    "DequantizeLinear", "DynamicQuantizeLinear", "GatherBlockQuantized", "MatMulInteger", "MatMulNBits", "QLinearConv",
    "QLinearMatMul", "QuantizeLinear",
}  # fmt: skip


def convert(
    source: Path, target: Path, method: str, writer: ChooseWriter, keep_float: Collection[str] = ()
) -> QuantizedNodes:
    """Write a graph with the nodes that a method chooses in fewer bits.

    Args:
        source: The float graph.
        target: Where the quantized graph goes; an existing file is replaced.
        method: What tables call the method.
        writer: Says of each node that could be quantized how it is written.
        keep_float: Names of nodes to leave in float.

    Returns:
        What was quantized.

    Raises:
        ModelError: The graph is quantized already.
        RequestError: `keep_float` names a node that cannot be quantized anyway.
        ExportError: There is nothing to quantize in the graph, or the file would not shrink.
    """
    model, result = rewritten(source, method, writer, keep_float)
    save_graph(model, target, source.parent)
    result.bytes_after = bytes_on_disk(target)
    if result.names or not result.kept_float:  # else all of it was kept in float on request
        refuse_larger(source, target, result)
    return result


def convert_beside(source: Path, target: Path, writer: ChooseWriter) -> None:
    """Write a trial of `convert` into the source's folder: float weights are referred to there, not copied."""
    import onnx

    onnx.save(rewritten(source, "trial", writer)[0], str(target))


def rewritten(
    source: Path, method: str, writer: ChooseWriter, keep_float: Collection[str] = ()
) -> tuple[onnx.ModelProto, QuantizedNodes]:
    """Return a graph with the chosen nodes rewritten, its untouched weights unread, and what was done."""
    model = load_graph(source)
    refuse_quantized(model, source)
    every = list(scopes(model.graph))
    sizes = weight_bytes(every)
    found, left = candidates(every)
    _check_names(keep_float, found)
    result = QuantizedNodes(left=left, bytes_before=bytes_on_disk(source), method=method)
    chosen, writers = [], {}
    for item in share_tied(found, source.parent):
        write = writer(item)
        if item.name in keep_float:
            result.kept_float.append(item.name)
        elif write is None:
            left.setdefault(item.kind, []).append(item.name)
        else:
            result.names.setdefault(item.kind, []).append(item.name)
            writers[item.name] = write
            chosen.append(item)
    stayed = [*result.kept_float, *(name for names in left.values() for name in names)]
    result.float_bytes = {name: sizes[name] for name in stayed}
    Rewriter(model, every, chosen, source.parent, writers).rewrite()
    return model, result


def refuse_quantized(model: onnx.ModelProto, source: Path) -> None:
    """Make sure that a graph is a float one.

    Raises:
        ModelError: It has operators that only quantized graphs have.
    """
    kinds = sorted({node.op_type for scope in scopes(model.graph) for node in scope.graph.node} & _QUANTIZED)
    if kinds:
        fix = "Give the float graph; `hfcompress export` writes it as model.onnx."
        raise ModelError(Fault(str(source), f"is quantized already: it holds {', '.join(kinds)}.", fix))


def quantizable(source: Path, embeddings: bool = True) -> list[str]:
    """Return the names of the nodes that can be quantized, in the graph's order."""
    found, _ = candidates(list(scopes(load_graph(source).graph)))
    return [item.name for item in found if embeddings or item.kind != "Gather"]


def _check_names(keep_float: Collection[str], found: list[Candidate]) -> None:
    known = [item.name for item in found]
    faults = []
    for name in sorted(set(keep_float) - set(known)):
        near = closest(name, known)
        hint = f"Did you mean '{near}'?" if near else f"Those that would be: {', '.join(known[:5])} …"
        faults.append(Fault("keep_float", f"the graph quantizes no node '{name}'.", hint))
    if faults:
        raise RequestError(*faults)
