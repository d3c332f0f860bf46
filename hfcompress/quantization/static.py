"""Static int8: activations rounded with scales that were measured once, as QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Interval

from hfcompress.config import option
from hfcompress.quantization.convert import FAMILY, Batches, ChooseWriter, convert, convert_beside
from hfcompress.quantization.files import numbers
from hfcompress.quantization.nodes import QuantizedNodes
from hfcompress.quantization.observing import products, require_rows
from hfcompress.quantization.ranges import CALIBRATORS, Calibrator, Range, look, range_of
from hfcompress.quantization.rewriter import LARGEST_IN_PRODUCT, Rewriter, Write
from hfcompress.quantization.sensitivity import relative_error
from hfcompress.quantization.weights import Candidate
from hfcompress.registry import register

_LEVELS = 255
_ACTIVATIONS = ("Relu", "Clip")
"""What ONNX Runtime joins to an integer convolution, between the product and the rounding of its output."""


@dataclass
class StaticConfig:
    """Options of static int8."""

    calibrator: Literal["auto", "minmax", "percentile", "entropy"] = option(
        "auto", help="static: how ranges are chosen; auto measures which answers nearest to float"
    )
    percentile: Annotated[float, Interval(gt=50, le=100)] = option(
        99.99, help="static: percent of the values that the percentile calibrator spans"
    )
    no_quantize_embeddings: bool = option(False, help="leave embeddings in float")


class Static:
    """Writes products and convolutions whose inputs have known ranges; the others with dynamic scales.

    `x ≈ scale · (q − zero)` with `q` in 0 … 255 over the whole range (Jacob et al. 2018, equation 1). Weights are
    symmetric with a scale for each output and span −64 … 64, as in `quantize_dynamic`.

    Args:
        ranges: The smallest and the largest number by the name of the value.
        embeddings: Whether embeddings are quantized.
    """

    def __init__(self, ranges: Mapping[str, Range], embeddings: bool = True) -> None:
        self.ranges = ranges
        self.embeddings = embeddings
        self.settled: set[str] = set()
        self.known: dict[str, str] = {}

    def choose(self, item: Candidate) -> Write | None:
        """Return how a node is written."""
        if item.kind == "Gather" and not self.embeddings:
            return None
        known = item.kind != "Gather" and item.scope.outer is None and item.node.input[0] in self.ranges
        return self.write if known else Rewriter.int8

    def write(self, rewriter: Rewriter, item: Candidate) -> None:
        """Write one node."""
        if item.kind == "Conv":
            self._convolution(rewriter, item)
            return
        node, shared = item.node, item.axis == 0 and item.weight.tensor.name in rewriter.embedded
        integers, scale = rewriter.store(item, LARGEST_IN_PRODUCT, transpose=item.axis == 0 and not shared)
        if shared:
            integers = rewriter.add("Transpose", [integers], perm=[1, 0])
        outputs = item.weight.tensor.dims[item.axis]
        zeros = rewriter.hold(item.weight.graph, f"int8_zeros_{outputs}", np.zeros(outputs, np.int8))
        weight = rewriter.add("DequantizeLinear", [integers, scale, zeros], axis=1)
        bias = node.input[2] if len(node.input) > 2 else ""
        taken = [self.rounded(rewriter, node.input[0]), weight]
        total = rewriter.add("MatMul", taken, "" if bias else node.output[0])
        if bias:  # as a sum: an addition ONNX Runtime would join to a float Gemm
            rewriter.add("Sum", [total, bias], node.output[0])

    def rounded(self, rewriter: Rewriter, name: str) -> str:
        """Return activations after rounding; each is rounded once."""
        if name in self.settled:
            return name
        if name not in self.known:
            self.known[name] = self._round(rewriter, name, name)
        return self.known[name]

    def _round(self, rewriter: Rewriter, name: str, of: str, output: str = "") -> str:
        low, high = self.ranges[of]
        scale, zero = activation_grid(low, high)
        held = [rewriter.constant(f"{of}_scale", scale), rewriter.constant(f"{of}_zero", zero)]
        return rewriter.add("DequantizeLinear", [rewriter.add("QuantizeLinear", [name, *held]), *held], output)

    def _convolution(self, rewriter: Rewriter, item: Candidate) -> None:
        """Round a convolution's input, weight, bias and output, so that ONNX Runtime computes it in integers."""
        node = item.node
        integers, scale = rewriter.store(item, LARGEST_IN_PRODUCT)
        outputs = item.weight.tensor.dims[0]
        zeros = rewriter.hold(item.weight.graph, f"int8_zeros_{outputs}", np.zeros(outputs, np.int8))
        weight = rewriter.add("DequantizeLinear", [integers, scale, zeros], axis=0)
        node.input[1] = weight
        bias = item.scope.find(node.input[2]) if len(node.input) > 2 else None
        if bias is not None:
            step = activation_grid(*self.ranges[node.input[0]])[0] * rewriter.scales[integers]
            exact = numbers(bias.tensor, rewriter.folder)
            limit = 2**31 - 2**8
            codes = np.clip(np.rint(exact / step.astype(np.float64)), -limit, limit).astype(np.int32)
            name = f"{bias.tensor.name}_int32_{node.output[0]}"
            held = [rewriter.hold(bias.graph, name, codes), rewriter.hold(bias.graph, f"{name}_scale", step)]
            node.input[2] = rewriter.add("DequantizeLinear", held, axis=0)
        node.input[0] = self.rounded(rewriter, node.input[0])
        rewriter.keep(node)

    def settle(self, rewriter: Rewriter, name: str) -> None:
        """Have a convolution's output rounded where it is made, before anything takes it."""
        if name not in self.settled:
            self.settled.add(name)
            rewriter.settled[name] = lambda made, known_as: void(self._round(rewriter, made, known_as, known_as))


def void(_: object) -> None:
    """Drop a result."""


def activation_grid(low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Return scale and zero point of unsigned 8 bits that span a range which holds 0.

    Example:
        >>> [part.item() for part in activation_grid(-1.0, 1.55)]
        [0.009999999776482582, 100]
    """
    scale = np.float32(max((high - low) / _LEVELS, float(np.finfo(np.float32).tiny)))
    return np.asarray(scale), np.asarray(np.clip(np.rint(-low / scale), 0, _LEVELS), dtype=np.uint8)


def convolution_outputs(source: Path) -> dict[str, str]:
    """Return by each convolution's output the value that its integer kernel would make: behind its activation."""
    found = {}
    for item in products(source):
        if item.kind == "Conv":
            takers = [node for node in item.scope.graph.node if item.node.output[0] in node.input]
            alone = len(takers) == 1 and takers[0].op_type in _ACTIVATIONS
            found[item.node.output[0]] = takers[0].output[0] if alone else item.node.output[0]
    return found


def measure_ranges(
    source: Path, batches: Batches, calibrators: Collection[Calibrator] = CALIBRATORS, percentile: float = 99.99
) -> dict[Calibrator, dict[str, Range]]:
    """Return the ranges of all values that static int8 rounds, by each calibrator.

    Raises:
        DataError: A value is not finite.
    """
    names = [item.node.input[0] for item in products(source)] + list(convolution_outputs(source).values())
    seen = look(source, list(dict.fromkeys(names)), batches)
    return {kind: {name: range_of(one, kind, percentile) for name, one in seen.items()} for kind in calibrators}


def static_writer(source: Path, ranges: Mapping[str, Range], embeddings: bool = True) -> ChooseWriter:
    """Return how nodes are written with known ranges; a range for each value as `measure_ranges` names them."""
    static = Static(ranges, embeddings)
    outputs = {made: out for made, out in convolution_outputs(source).items() if out in ranges}

    def write(rewriter: Rewriter, item: Candidate) -> None:
        if item.kind == "Conv" and item.node.output[0] in outputs:
            static.settle(rewriter, outputs[item.node.output[0]])
        static.write(rewriter, item)

    def choose(item: Candidate) -> Write | None:
        plain = static.choose(item)
        return write if plain == static.write else plain

    return choose


def nearest_calibrator(
    source: Path, found: Mapping[Calibrator, Mapping[str, Range]], batches: Batches, keep_float: Collection[str] = ()
) -> tuple[Calibrator, dict[str, float]]:
    """Return the calibrator whose file answers nearest to float on calibration rows, and the relative error of each."""
    from hfcompress.quantization.answers import answers

    reference, errors = answers(source, batches), {}
    for kind, ranges in found.items():
        trial = source.with_name(f"trial_{kind}_{source.name}")
        writer = static_writer(source, ranges)
        try:
            convert_beside(source, trial, partial(_unless_kept, writer, set(keep_float)))
            errors[str(kind)] = relative_error(reference, answers(trial, batches))
        finally:
            trial.unlink(missing_ok=True)
    return min(found, key=lambda kind: errors[kind]), errors


def _unless_kept(writer: ChooseWriter, kept: set[str], item: Candidate) -> Write | None:
    return None if item.name in kept else writer(item)


@register(FAMILY, "static", StaticConfig)
def quantize_static(
    source: Path,
    target: Path,
    config: StaticConfig,
    batches: Batches | None = None,
    keep_float: Collection[str] = (),
) -> QuantizedNodes:
    """8-bit weights and activations, their ranges measured once on calibration rows.

    Products and convolutions are written as `QuantizeLinear` and `DequantizeLinear` around the float operator, which
    every runtime reads; softmax, normalisations and activation functions stay float. Products inside branches, whose
    inputs cannot be observed, have dynamic scales.

    Args:
        source: The float graph.
        target: Where the quantized graph goes.
        config: The options.
        batches: Rows to calibrate on.
        keep_float: Names of nodes to leave in float.

    Raises:
        DataError: There are no rows, or something on them is not finite.
        ExportError: The file would not shrink.
    """
    rows = require_rows(batches, "static int8")
    wanted = CALIBRATORS if config.calibrator == "auto" else (config.calibrator,)
    found = measure_ranges(source, rows, wanted, config.percentile)
    chosen, errors = nearest_calibrator(source, found, rows, keep_float)
    result = write_static(source, target, found[chosen], not config.no_quantize_embeddings, keep_float)
    result.details = {"calibrator": chosen, "calibrator_errors": errors}
    return result


def write_static(
    source: Path,
    target: Path,
    ranges: Mapping[str, Range],
    embeddings: bool = True,
    keep_float: Collection[str] = (),
) -> QuantizedNodes:
    """Write a graph with given ranges, measured or trained, by the name of the value."""
    return convert(source, target, "static int8", static_writer(source, ranges, embeddings), keep_float)
