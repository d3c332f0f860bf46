"""Dynamic int8: weights of matrix products and embeddings in 8 bits, activations rounded anew at every call."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hfcompress.errors import ExportError, Fault, RequestError, closest
from hfcompress.quantization.files import bytes_on_disk, load_graph, save_graph
from hfcompress.quantization.graph import scopes
from hfcompress.quantization.rewriter import Rewriter
from hfcompress.quantization.weights import Candidate, candidates, share_tied


@dataclass
class QuantizedNodes:
    """What was quantized in a graph, and what was not.

    Args:
        names: Names of the quantized nodes, by kind (`MatMul`, `Gemm`, `Gather`, `Conv`), in the graph's order.
        kept_float: Names of the nodes that were left in float on request.
        left: Names of nodes with weights that cannot or need not be quantized, by kind.
        bytes_before: Size of the float graph, with its data.
        bytes_after: Size of the quantized one.
    """

    names: dict[str, list[str]] = field(default_factory=dict)
    kept_float: list[str] = field(default_factory=list)
    left: dict[str, list[str]] = field(default_factory=dict)
    bytes_before: int = 0
    bytes_after: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """Number of quantized nodes by kind."""
        return {kind: len(names) for kind, names in self.names.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return it for the record of an export."""
        return {
            "method": "dynamic int8",
            "nodes": self.counts,
            "kept_float": self.kept_float,
            "left": self.left,
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
        }


def quantize_dynamic(
    source: Path, target: Path, embeddings: bool = True, keep_float: Collection[str] = ()
) -> QuantizedNodes:
    """Write an ONNX file with its weights in int8.

    - Matrix products (`MatMul` and `Gemm` with a constant matrix): symmetric int8 with a scale for each output; their
      activations are rounded to unsigned 8 bits by `DynamicQuantizeLinear` at every call. ONNX Runtime makes one
      integer kernel of the rounding and the product. Where a product narrows (the second of a feed-forward layer),
      each token is divided by its largest magnitude before and multiplied by it after, so that the few tokens with
      huge activations do not take the resolution from all others. The other products read what was normalised, whose
      tokens are alike: there it would cost more time than it wins.
    - Embeddings (`Gather`): symmetric int8 with a scale for each row. Output layers tied to them share the same bytes.
    - Convolutions: held in int8 with a scale for each output channel, turned into float once when the file is loaded.
      This saves the bytes; integer convolutions with dynamic scales are slower than float ones on CPUs.

    **The same file answers the same on every CPU.** Without VNNI, AVX2 and AVX512 multiply pairs of unsigned and signed
    bytes and add the two products in 16 signed bits, which saturate. Weights of products therefore span -64 … 64:
    255 · 64 · 2 = 32,640 fits into 16 bits, so the sums in 32 bits are exact integers whatever the instruction.

    An `Add` in front of a `LayerNormalization` is written as `Sum`, which is the same: ONNX Runtime would fuse the two
    into one kernel that takes several times as long on a CPU as both.

    Args:
        source: The float graph.
        target: Where the quantized graph goes; an existing file is replaced.
        embeddings: Whether embeddings are quantized too.
        keep_float: Names of nodes to leave in float.

    Returns:
        What was quantized.

    Raises:
        RequestError: `keep_float` names a node that cannot be quantized anyway.
        ExportError: There is nothing to quantize in the graph, or the file would not shrink.
    """
    model = load_graph(source)
    every = list(scopes(model.graph))
    found, left = candidates(every)
    _check_names(keep_float, found)
    result = QuantizedNodes(left=left, bytes_before=bytes_on_disk(source))
    chosen = []
    for item in share_tied(found, source.parent):
        if item.name in keep_float:
            result.kept_float.append(item.name)
        elif item.kind == "Gather" and not embeddings:
            left.setdefault("Gather", []).append(item.name)
        else:
            result.names.setdefault(item.kind, []).append(item.name)
            chosen.append(item)
    Rewriter(model, every, chosen, source.parent).rewrite()
    save_graph(model, target, source.parent)
    result.bytes_after = bytes_on_disk(target)
    if found and not chosen:  # all of it was kept in float on request
        return result
    if result.bytes_after >= result.bytes_before:
        for part in (target, target.with_name(target.name + "_data")):
            part.unlink(missing_ok=True)
        raise ExportError(_not_smaller(source, result))
    return result


def quantizable(source: Path, embeddings: bool = True) -> list[str]:
    """Return the names of the nodes that `quantize_dynamic` would quantize, in the graph's order."""
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


def _not_smaller(source: Path, result: QuantizedNodes) -> str:
    counts = ", ".join(f"{count} {kind}" for kind, count in result.counts.items()) or "none"
    return (
        f"int8 does not make {source.name} smaller: {result.bytes_before:,} bytes before, {result.bytes_after:,} after "
        f"(nodes quantized: {counts}). Its float weights are too few or lie in operators that int8 does not cover; "
        "export it with `--quantize none`."
    )
