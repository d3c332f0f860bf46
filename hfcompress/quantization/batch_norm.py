"""Batch normalisations behind convolutions become a part of their weights and biases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hfcompress.quantization.files import external, load_graph, numbers, save_graph
from hfcompress.quantization.graph import Scope, attribute, remove_unused

if TYPE_CHECKING:
    import onnx

_EPSILON = 1e-5


def fold_batch_norms(file: Path) -> int:
    """Fold the batch normalisations that stand alone behind convolutions; return how many there were.

    `γ (W ∗ x + b − μ) / √(σ² + ε) + β` is the convolution with `g W` and `g (b − μ) + β`, where `g = γ / √(σ² + ε)` for
    each output channel (Jacob et al. 2018, https://arxiv.org/abs/1712.05877, section 3.2). ONNX Runtime does so when it
    loads a float graph, but not any more when weights are integers.

    Args:
        file: The graph; replaced if anything is folded. One with weights in a second file stays as it is.
    """
    model = load_graph(file)
    scope = Scope(model.graph)
    if any(place.location != file.name for place in _places(model)):
        return 0
    takers: dict[str, int] = {output.name: 1 for output in model.graph.output}
    for node in model.graph.node:
        for name in node.input:
            takers[name] = takers.get(name, 0) + 1
    count = 0
    for norm in [node for node in model.graph.node if node.op_type == "BatchNormalization"]:
        convolution = scope.producers.get(norm.input[0])
        if convolution is not None and convolution.op_type == "Conv" and takers[norm.input[0]] == 1:
            count += _fold(scope, convolution, norm, takers, file.parent)
    if count:
        remove_unused(model)
        folded = file.with_name(f"folded_{file.name}")
        save_graph(model, folded, file.parent)
        folded.replace(file)
    return count


def _places(model: onnx.ModelProto) -> list[onnx.external_data_helper.ExternalDataInfo]:
    import onnx

    return [onnx.external_data_helper.ExternalDataInfo(tensor) for tensor in external(model)]


def _fold(
    scope: Scope, convolution: onnx.NodeProto, norm: onnx.NodeProto, takers: Mapping[str, int], folder: Path
) -> bool:
    """Fold one normalisation into the convolution before it; say whether that is possible."""
    from onnx import numpy_helper

    held = [scope.weights.get(name) for name in (*norm.input[1:5], *convolution.input[1:])]
    if any(tensor is None for tensor in held):
        return False
    gamma, beta, mean, variance, weight, *bias = (
        np.asarray(numbers(tensor, folder), dtype=np.float64) for tensor in held if tensor is not None
    )
    scale = gamma / np.sqrt(variance + attribute(norm, "epsilon", _EPSILON))
    shifted = scale * ((bias[0] if bias else 0) - mean) + beta
    output, kernel = norm.output[0], convolution.input[1]
    name = kernel if takers[kernel] == 1 else f"{kernel}_{output}"
    folded = numpy_helper.from_array((weight * scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.float32), name)
    if name == kernel:
        scope.weights[kernel].CopyFrom(folded)
    else:
        scope.graph.initializer.append(folded)
    scope.graph.initializer.append(numpy_helper.from_array(shifted.astype(np.float32), f"{output}_bias"))
    del convolution.input[1:]
    convolution.input.extend([name, f"{output}_bias"])
    convolution.output[0] = output
    scope.graph.node.remove(norm)
    return True
