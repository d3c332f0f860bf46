"""Dynamic int8: weights of matrix products and embeddings in 8 bits, activations rounded anew at every call."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from hfcompress.config import option
from hfcompress.quantization.convert import FAMILY, Batches, ChooseWriter, convert, quantizable
from hfcompress.quantization.nodes import QuantizedNodes
from hfcompress.quantization.rewriter import Rewriter
from hfcompress.registry import register

__all__ = ["QuantizedNodes", "quantizable", "quantize_dynamic"]

_NAME = "dynamic int8"


@dataclass
class DynamicConfig:
    """Options of dynamic int8."""

    no_quantize_embeddings: bool = option(False, help="leave embeddings in float")


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
        ModelError: The graph is quantized already.
        RequestError: `keep_float` names a node that cannot be quantized anyway.
        ExportError: There is nothing to quantize in the graph, or the file would not shrink.
    """
    return convert(source, target, _NAME, int8_writer(embeddings), keep_float)


def int8_writer(embeddings: bool = True) -> ChooseWriter:
    """Return how nodes are written in dynamic int8; embeddings are left in float if told so."""
    return lambda item: Rewriter.int8 if embeddings or item.kind != "Gather" else None


@register(FAMILY, "dynamic", DynamicConfig)
def dynamic(
    source: Path,
    target: Path,
    config: DynamicConfig,
    batches: Batches | None = None,
    keep_float: Collection[str] = (),
) -> QuantizedNodes:
    """8-bit weights; activations are rounded to 8 bits with a scale of their own at every call."""
    return quantize_dynamic(source, target, not config.no_quantize_embeddings, keep_float)
