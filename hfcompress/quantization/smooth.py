"""SmoothQuant: outliers of activations are moved into the weights before static int8."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from annotated_types import Interval

from hfcompress.config import option
from hfcompress.quantization.convert import FAMILY, Batches, refuse_quantized
from hfcompress.quantization.files import bytes_on_disk, load_graph, numbers, save_graph
from hfcompress.quantization.graph import Scope, remove_unused, scopes
from hfcompress.quantization.nodes import QuantizedNodes
from hfcompress.quantization.observing import largest_inputs, products, require_rows
from hfcompress.quantization.static import StaticConfig, quantize_static
from hfcompress.quantization.weights import Candidate, candidates, share_tied
from hfcompress.registry import register

if TYPE_CHECKING:
    import onnx

_LEAST, _MOST = 1e-2, 1e2
"""Factors beyond these say that a column hardly ever carries anything; scaling it further wins nothing."""


@dataclass
class SmoothQuantConfig(StaticConfig):
    """Options of static int8 after equalisation."""

    smoothing: Annotated[float, Interval(ge=0, le=1)] = option(
        0.5, help="smooth_quant: how much of the activations' outliers goes into the weights, from 0 to 1"
    )


def smooth(source: Path, target: Path, peaks: dict[str, np.ndarray], strength: float) -> list[str]:
    """Write a float graph that answers the same, with the magnitudes of inputs and of weights evened out.

    Xiao et al. 2023, equation 4: `Y = (X diag(s)⁻¹)(diag(s) W)` with `s_j = max|X_j|^a / max|W_j|^(1−a)`, one `s` for
    all products that take the same input. `diag(s)⁻¹` goes into the `LayerNormalization` that makes the input where
    nothing else takes it, and is a multiplication otherwise. A weight that is used elsewhere is left alone.

    Args:
        source: The float graph.
        target: Where the other one goes.
        peaks: The largest magnitude of each column of each input.
        strength: `a`.

    Returns:
        The inputs that were evened out.
    """
    model = load_graph(source)
    refuse_quantized(model, source)
    every = list(scopes(model.graph))
    found = share_tied(candidates(every)[0], source.parent)
    taken = [item.weight.tensor.name for item in found]
    groups: dict[str, list[Candidate]] = {}
    for item in found:
        usable = item.kind in ("MatMul", "Gemm") and item.scope is every[0] and item.node.input[0] in peaks
        if usable and taken.count(item.weight.tensor.name) == 1:
            groups.setdefault(item.node.input[0], []).append(item)
    for name, items in groups.items():
        factors = _factors(peaks[name], items, source.parent, strength)
        for item in items:
            _scale_weight(item, factors, source.parent)
        _divide_input(model.graph, every[0], name, items, factors, source.parent)
    remove_unused(model)
    save_graph(model, target, source.parent)
    return list(groups)


def _factors(peak: np.ndarray, items: list[Candidate], folder: Path, strength: float) -> np.ndarray:
    largest = np.zeros(len(peak), np.float32)
    for item in items:
        weight = numbers(item.weight.tensor, folder)
        largest = np.maximum(largest, np.abs(weight).max(axis=item.axis))
    alive = (peak > 0) & (largest > 0)
    factors = np.ones(len(peak), np.float32)
    factors[alive] = peak[alive] ** strength / largest[alive] ** (1 - strength)
    factors[alive] /= np.exp(np.mean(np.log(factors[alive]))) if alive.any() else 1  # a common factor changes nothing
    return np.clip(factors, _LEAST, _MOST).astype(np.float32)


def _scale_weight(item: Candidate, factors: np.ndarray, folder: Path) -> None:
    import onnx

    tensor = item.weight.tensor
    scaled = numbers(tensor, folder) * np.expand_dims(factors, item.axis)
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(scaled), tensor.name))


def _divide_input(
    graph: onnx.GraphProto, scope: Scope, name: str, items: list[Candidate], factors: np.ndarray, folder: Path
) -> None:
    """Divide an input by factors: inside the normalisation that makes it if that is all its output is for, or after."""
    import onnx

    maker = scope.producers.get(name)
    takers = [node for node in graph.node if name in node.input]
    alone = len(takers) == len(items) and name not in {value.name for value in graph.output}
    if alone and maker is not None and maker.op_type == "LayerNormalization":
        for place in range(1, len(maker.input)):
            weight = scope.find(maker.input[place])
            if weight is None:
                break
            divided = numbers(weight.tensor, folder) / factors
            held = f"{maker.input[place]}_smooth_{name}"
            graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(divided, np.float32), held))
            maker.input[place] = held
        return
    held, smoothed = f"{name}_smoothing", f"{name}_smooth"
    graph.initializer.append(onnx.numpy_helper.from_array((1 / factors).astype(np.float32), held))
    first = min(index for index, node in enumerate(graph.node) if any(node == item.node for item in items))
    graph.node.insert(first, onnx.helper.make_node("Mul", [name, held], [smoothed], f"{name}_smoothing"))
    for item in items:
        item.node.input[0] = smoothed


@register(FAMILY, "smooth_quant", SmoothQuantConfig)
def quantize_smooth(
    source: Path,
    target: Path,
    config: SmoothQuantConfig,
    batches: Batches | None = None,
    keep_float: Collection[str] = (),
) -> QuantizedNodes:
    """Static int8 after the outliers of activations were moved into the weights.

    Raises:
        DataError: There are no rows, or something on them is not finite.
        ExportError: The file would not shrink.
    """
    rows = require_rows(batches, "SmoothQuant")
    names = list(dict.fromkeys(item.node.input[0] for item in products(source) if item.kind != "Conv"))
    smoothed = source.with_name(f"smoothed_{source.name}")
    try:
        inputs = smooth(source, smoothed, largest_inputs(source, names, rows), config.smoothing)
        result = quantize_static(smoothed, target, config, rows, keep_float)
    finally:
        for part in (smoothed, smoothed.with_name(smoothed.name + "_data")):
            part.unlink(missing_ok=True)
    result.bytes_before = bytes_on_disk(source)
    result.method = "static int8, smoothed"
    result.details = {**result.details, "smoothing": config.smoothing, "smoothed": len(inputs)}
    return result
