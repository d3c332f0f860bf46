"""Which weights of a graph can be held in int8: every product, embedding and convolution, and its weight's layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hfcompress.quantization.files import numbers
from hfcompress.quantization.graph import Found, Scope, attribute, node_name

if TYPE_CHECKING:
    import onnx

SMALLEST_SIDE = 16
"""A matrix with a shorter side stays in float: heads of a few labels, kinds of segments. It saves next to nothing."""

_WEIGHT_INPUT = {"MatMul": 1, "Gemm": 1, "Conv": 1, "Gather": 0}


@dataclass(frozen=True)
class Candidate:
    """A node whose weight can be held in int8.

    Args:
        node: The node.
        name: What it is called.
        scope: The graph that it stands in.
        weight: Its weight.
        axis: The axis of the stored weight along which scales differ: outputs of a product, rows of an embedding.
    """

    node: onnx.NodeProto
    name: str
    scope: Scope
    weight: Found
    axis: int

    @property
    def kind(self) -> str:
        """The operator."""
        return self.node.op_type


def candidates(every: list[Scope]) -> tuple[list[Candidate], dict[str, list[str]]]:
    """Find what can be quantized.

    Args:
        every: The file's graphs.

    Returns:
        The candidates in the graph's order, and the names of nodes whose float weights cannot or need not be quantized,
        by kind.
    """
    found: list[Candidate] = []
    left: dict[str, list[str]] = {}
    for scope in every:
        for node in scope.graph.node:
            place = _WEIGHT_INPUT.get(node.op_type)
            weight = None if place is None else scope.find(node.input[place])
            if weight is None or not weight.tensor.dims or not _is_float(weight.tensor):
                continue
            axis = _scale_axis(node, weight)
            if axis is None:
                left.setdefault(node.op_type, []).append(node_name(node))
            else:
                found.append(Candidate(node, node_name(node), scope, weight, axis))
    return found, left


def weight_bytes(every: list[Scope]) -> dict[str, int]:
    """Return the bytes of the weight that each node takes, by the node's name, where it takes one of a known kind."""
    import onnx

    found = {}
    for scope in every:
        for node in scope.graph.node:
            place = _WEIGHT_INPUT.get(node.op_type)
            weight = None if place is None else scope.find(node.input[place])
            if weight is not None and _is_float(weight.tensor):
                kind = onnx.helper.tensor_dtype_to_np_dtype(weight.tensor.data_type)
                found[node_name(node)] = int(np.prod(weight.tensor.dims)) * kind.itemsize
    return found


def matrix_of(item: Candidate, folder: Path) -> np.ndarray:
    """Return a product's or an embedding's weight with a row for each output or token, `(rows, columns)`."""
    array = numbers(item.weight.tensor, folder)
    return array if item.axis == 0 else array.T


def _is_float(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type in (tensor.FLOAT, tensor.FLOAT16, tensor.BFLOAT16, tensor.DOUBLE)


def _scale_axis(node: onnx.NodeProto, weight: Found) -> int | None:
    """Return the axis of a weight's scales, or None where the node is better or can only be left as it is."""
    dims = weight.tensor.dims
    if weight.tensor.data_type != weight.tensor.FLOAT:
        return None
    if node.op_type == "Conv":
        return None if weight.transposed or np.prod(dims) < SMALLEST_SIDE**2 else 0
    if len(dims) != 2 or min(dims) < SMALLEST_SIDE:
        return None
    if node.op_type == "Gather":
        return None if weight.transposed or attribute(node, "axis", 0) != 0 else 0
    transposed = weight.transposed
    if node.op_type == "Gemm":
        scaled = attribute(node, "alpha", 1.0) != 1 or (len(node.input) > 2 and attribute(node, "beta", 1.0) != 1)
        if scaled or attribute(node, "transA", 0):
            return None
        transposed ^= bool(attribute(node, "transB", 0))
    return 0 if transposed else 1


def share_tied(found: list[Candidate], folder: Path) -> list[Candidate]:
    """Let products use the embedding's weight where an exporter wrote it twice, once transposed, for tied weights.

    Args:
        found: The candidates.
        folder: Where weights lie that are not in the file.
    """
    embeddings = {item.weight.tensor.name: item.weight for item in found if item.kind == "Gather"}
    return [_tied(item, embeddings, folder) for item in found]


def _tied(item: Candidate, embeddings: dict[str, Found], folder: Path) -> Candidate:
    tensor = item.weight.tensor
    if item.kind in ("MatMul", "Gemm") and item.axis == 1 and tensor.name not in embeddings:
        for embedding in _of_shape(embeddings, tensor.dims[::-1]):
            if np.array_equal(numbers(embedding.tensor, folder).T, numbers(tensor, folder)):
                return Candidate(item.node, item.name, item.scope, embedding, 0)
    return item


def _of_shape(embeddings: dict[str, Found], dims: list[int]) -> Iterator[Found]:
    return (embedding for embedding in embeddings.values() if list(embedding.tensor.dims) == list(dims))
