"""float16: every large weight stored in half the bytes, computed with in float32."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hfcompress.quantization.convert import FAMILY, Batches, refuse_quantized
from hfcompress.quantization.files import bytes_on_disk, load_graph, numbers, save_graph
from hfcompress.quantization.graph import scopes
from hfcompress.quantization.nodes import QuantizedNodes, refuse_larger
from hfcompress.registry import register

if TYPE_CHECKING:
    import onnx

_SMALLEST = 256  # numbers; a smaller weight saves less than the node that turns it back costs
_LARGEST = float(np.finfo(np.float16).max)


@dataclass
class Float16Config:
    """float16 has no options."""


@register(FAMILY, "float16", Float16Config)
def quantize_float16(
    source: Path,
    target: Path,
    config: Float16Config,
    batches: Batches | None = None,
    keep_float: Collection[str] = (),
) -> QuantizedNodes:
    """Weights in float16, arithmetic in float32: half the bytes, the float file's time and answers.

    ONNX Runtime's CPU kernels compute in float32; a graph wholly in float16 would be cast around every operator, at
    several times the time. Each weight is therefore cast back once, when the file is loaded. A weight with a number
    that float16 cannot hold stays as it is.

    Raises:
        ModelError: The graph is quantized already.
        ExportError: The file would not shrink.
    """
    model = load_graph(source)
    refuse_quantized(model, source)
    result = QuantizedNodes(bytes_before=bytes_on_disk(source), method="float16 weights")
    for scope in scopes(model.graph):
        for tensor in list(scope.graph.initializer):
            if tensor.data_type != tensor.FLOAT or np.prod(tensor.dims) < _SMALLEST:
                continue
            weight = numbers(tensor, source.parent)
            peak = max(float(weight.max()), -float(weight.min()))
            if not peak <= _LARGEST:
                result.left.setdefault("weight", []).append(tensor.name)
                result.float_bytes[tensor.name] = weight.nbytes
                continue
            _halve(scope.graph, tensor, weight)
            result.names.setdefault("weight", []).append(tensor.name)
    save_graph(model, target, source.parent)
    result.bytes_after = bytes_on_disk(target)
    refuse_larger(source, target, result)
    return result


def _halve(graph: onnx.GraphProto, tensor: onnx.TensorProto, weight: np.ndarray) -> None:
    """Store a weight in float16 under another name, and cast it to its own name in front of everything."""
    import onnx

    name = tensor.name
    tensor.CopyFrom(onnx.numpy_helper.from_array(weight.astype(np.float16), f"{name}_float16"))
    graph.node.insert(
        0, onnx.helper.make_node("Cast", [tensor.name], [name], f"{name}_cast", to=onnx.TensorProto.FLOAT)
    )
