"""Weight-only methods: weights in 4 or 8 bits, activations in float."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from hfcompress.config import option
from hfcompress.errors import Fault, ModelError
from hfcompress.quantization.blocks import Blocks, gptq, pack, round_to_blocks
from hfcompress.quantization.convert import FAMILY, Batches, ChooseWriter, convert
from hfcompress.quantization.nodes import QuantizedNodes
from hfcompress.quantization.observing import covariances, products, require_rows
from hfcompress.quantization.options import BlockSize, EmbeddingBits
from hfcompress.quantization.rewriter import LARGEST, Rewriter, Write
from hfcompress.quantization.weights import Candidate, matrix_of
from hfcompress.registry import register

if TYPE_CHECKING:
    from collections.abc import Mapping

_DOMAIN = "com.microsoft"
_FLOAT = 1  # onnx.TensorProto.FLOAT
_FAST = 4  # MatMulNBits' accuracy_level: activations rounded to 8 bits, block by block, inside the kernel


@dataclass
class Int4Config:
    """Options of int4."""

    algorithm: Literal["auto", "rtn", "hqq", "gptq"] = option(
        "auto",
        help="int4, mixed: how weights are rounded: rtn plainly, hqq with fitted scales, gptq (needs data) for the "
        "inputs that they get; auto: gptq with data, hqq without",
    )
    block_size: BlockSize = option(32, help="int4: how many weights share a scale")
    embedding_bits: EmbeddingBits = option(4, help="int4: bits of the embeddings")
    no_quantize_embeddings: bool = option(False, help="leave embeddings in float")


@dataclass
class Int8WeightsConfig:
    """Options of int8 for weights alone."""

    no_quantize_embeddings: bool = option(False, help="leave embeddings in float")


class FourBit:
    """Writes products as `MatMulNBits` and embeddings as `GatherBlockQuantized`, both of ONNX Runtime, in 4 bits.

    An embedding and an output layer tied to it share the same bytes. Scales are stored in float16; ONNX Runtime turns
    them into float32 once, when it loads the file.

    Args:
        block_size: Columns that share a scale.
        hqq: Whether scales are fitted.
        covariances: Of the inputs of products, by the name of the value; where it is known GPTQ rounds.
    """

    def __init__(
        self, block_size: int = 32, hqq: bool = True, covariances: Mapping[str, np.ndarray] | None = None
    ) -> None:
        self.block_size = block_size
        self.hqq = hqq
        self.covariances = covariances or {}
        self.rounded: dict[tuple[str, int], Blocks] = {}

    @property
    def algorithm(self) -> str:
        """What rounds products."""
        return "gptq" if self.covariances else "hqq" if self.hqq else "rtn"

    def covers(self, item: Candidate) -> bool:
        """Say whether a node can be written in 4 bits: no convolution, and an embedding only of whole blocks."""
        if item.kind == "Gather":
            return item.weight.tensor.dims[1] % self.block_size == 0
        return item.kind != "Conv"

    def write(self, rewriter: Rewriter, item: Candidate) -> None:
        """Write one node."""
        node, tied = item.node, item.weight.tensor.name in rewriter.embedded and item.axis == 0
        rows, columns = self._sides(item)
        codes, scale, zero = self._store(rewriter, item)
        half = rewriter.types[scale] == np.float16
        wide = rewriter.add("Cast", [scale], to=_FLOAT) if half else scale
        if item.kind == "Gather":
            rewriter.add(
                "GatherBlockQuantized", [codes, node.input[1], wide, zero], node.output[0],
                domain=_DOMAIN, gather_axis=0, quantize_axis=1, block_size=self.block_size, bits=4,
            )  # fmt: skip
            return
        count = -(-columns // self.block_size)
        if tied:
            shape = rewriter.hold(
                item.weight.graph, f"{codes}_shape", np.array([rows, count, self.block_size // 2], np.int64)
            )
            codes = rewriter.add("Reshape", [codes, shape])
        bias = node.input[2] if len(node.input) > 2 else ""
        total = rewriter.add(
            "MatMulNBits", [node.input[0], codes, wide, zero], "" if bias else node.output[0], domain=_DOMAIN,
            K=columns, N=rows, bits=4, block_size=self.block_size, accuracy_level=_FAST,
        )  # fmt: skip
        if bias:
            rewriter.add("Add", [total, bias], node.output[0])

    def _sides(self, item: Candidate) -> tuple[int, int]:
        dims = item.weight.tensor.dims
        return dims[item.axis], dims[1 - item.axis]

    def _store(self, rewriter: Rewriter, item: Candidate) -> tuple[str, str, str]:
        """Put a weight's codes, scales and zero points into the file, once, and return their names."""
        graph, name = item.weight.graph, f"{item.weight.tensor.name}_int4_{item.axis}"
        names = name, f"{name}_scale", f"{name}_zero"
        if name not in rewriter.held:
            key = item.weight.tensor.name, item.axis
            if key not in self.rounded:  # a search writes the same weight many times
                self.rounded[key] = self._round(item, rewriter.folder)
            blocks = self.rounded[key]
            codes = pack(blocks.codes)
            if item.weight.tensor.name not in rewriter.embedded or item.axis != 0:
                codes = codes.reshape(len(codes), blocks.scale.shape[1], -1)
            for held, array in zip(names, (codes, blocks.scale, pack(blocks.zero)), strict=True):
                rewriter.hold(graph, held, array)
        return names

    def _round(self, item: Candidate, folder: Path) -> Blocks:
        weight = matrix_of(item, folder)
        if not np.isfinite([weight.max(), weight.min()]).all():
            problem = f"the weight of {item.name} holds numbers that are not finite."
            raise ModelError(Fault(item.name, problem, "Train the model anew: it is damaged."))
        known = self.covariances.get(item.node.input[0]) if item.kind != "Gather" else None
        if known is not None:
            return gptq(weight, self.block_size, known)
        return round_to_blocks(weight, self.block_size, self.hqq)


def four_bit_writer(four: FourBit, embedding_bits: int = 4, embeddings: bool = True) -> ChooseWriter:
    """Return how nodes are written in 4 bits; what 4 bits do not cover is written in 8."""

    def choose(item: Candidate) -> Write | None:
        if item.kind == "Gather" and not embeddings:
            return None
        if not four.covers(item) or (item.kind == "Gather" and embedding_bits == 8):
            return eight_bit_weight
        return four.write

    return choose


def eight_bit_weight(rewriter: Rewriter, item: Candidate) -> None:
    """Write a node with its weight in int8, a scale for each output, turned into float once when the file is loaded.

    ONNX Runtime's own product with 8-bit weights and float activations takes several times as long as the float one
    where the processor has no kernel for it (AVX2); a weight that is turned back takes no more than the float one.
    """
    if item.kind in ("Gather", "Conv"):
        rewriter.int8(item)
        return
    shared = item.axis == 0 and item.weight.tensor.name in rewriter.embedded
    integers, scale = rewriter.store(item, LARGEST, transpose=item.axis == 0 and not shared)
    wide = rewriter.add("Cast", [integers], to=_FLOAT)
    weight = rewriter.add("Mul", [rewriter.add("Transpose", [wide], perm=[1, 0]) if shared else wide, scale])
    bias = item.node.input[2] if len(item.node.input) > 2 else ""
    total = rewriter.add("MatMul", [item.node.input[0], weight], "" if bias else item.node.output[0])
    if bias:
        rewriter.add("Add", [total, bias], item.node.output[0])


def four_bits(source: Path, config: Int4Config, batches: Batches | None = None) -> FourBit:
    """Return how a graph's weights are rounded to 4 bits.

    Raises:
        DataError: GPTQ has no rows.
    """
    known: dict[str, np.ndarray] = {}
    if config.algorithm == "gptq" or (config.algorithm == "auto" and batches):
        rows = require_rows(batches, "gptq")
        names = list(dict.fromkeys(item.node.input[0] for item in products(source) if item.kind != "Conv"))
        known = dict(covariances(source, names, rows))
    return FourBit(config.block_size, config.algorithm != "rtn", known)


@register(FAMILY, "int4", Int4Config)
def quantize_int4(
    source: Path,
    target: Path,
    config: Int4Config,
    batches: Batches | None = None,
    keep_float: Collection[str] = (),
) -> QuantizedNodes:
    """4-bit weights in blocks, activations in float: the smallest file.

    Products (`Gemm` as a product and an addition) become `MatMulNBits` with `accuracy_level` 4, embeddings
    `GatherBlockQuantized`, which ONNX Runtime knows since 1.22; convolutions and embeddings whose width no block
    divides are held in 8 bits.

    Args:
        source: The float graph.
        target: Where the quantized graph goes.
        config: The options.
        batches: Rows to calibrate on, for GPTQ.
        keep_float: Names of nodes to leave in float.

    Raises:
        DataError: GPTQ has no rows.
        ExportError: The file would not shrink.
    """
    four = four_bits(source, config, batches)
    writer = four_bit_writer(four, config.embedding_bits, not config.no_quantize_embeddings)
    result = convert(source, target, "int4 weights", writer, keep_float)
    result.details = {"algorithm": four.algorithm, "block_size": config.block_size}
    return result


@register(FAMILY, "int8_weights", Int8WeightsConfig)
def quantize_int8_weights(
    source: Path,
    target: Path,
    config: Int8WeightsConfig,
    batches: Batches | None = None,
    keep_float: Collection[str] = (),
) -> QuantizedNodes:
    """8-bit weights, activations in float: a quarter of the bytes, the float file's time, hardly any error."""

    def choose(item: Candidate) -> Write | None:
        return None if item.kind == "Gather" and config.no_quantize_embeddings else eight_bit_weight

    return convert(source, target, "int8 weights", choose, keep_float)
