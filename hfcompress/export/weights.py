"""Graphs that were traced without their weights: what they lack is found in the model, and constants are folded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from hfcompress.export.writing import Weight
from hfcompress.measure.onnx_size import all_nodes

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from torch import Tensor

_FOLDABLE = {"Cast", "Concat", "Identity", "Reshape", "Slice", "Sqrt", "Squeeze", "Unsqueeze"}
_LARGEST_CONSTANT = 1 << 16  # bytes


def find_weights(model: onnx.ModelProto, find: Callable[[str], Tensor | None]) -> dict[str, Weight]:
    """Take out the inputs of a graph that are weights, transposed where nothing else is made of them.

    Tracing leaves a `Transpose` before each product with a Linear's weight; kept, it would run with every text, and
    hide from fusion and quantization that the weight is constant. One that is also read as it is (tied embeddings)
    keeps it: stored twice, the largest matrix of a small model would be there twice.

    Args:
        model: The graph; changed in place.
        find: Returns the tensor of that name, or None when the input is a real one.

    Returns:
        The weights by the name that the graph has for them.
    """
    graph = model.graph
    found = {value.name: find(value.name) for value in graph.input}
    weights = {name: Weight(tensor) for name, tensor in found.items() if tensor is not None}
    _replace(graph.input, [value for value in graph.input if value.name not in weights])
    _drop_copies(graph, weights)
    _fold_transposes(graph, weights)
    fold_constants(model)
    used = {name for node in all_nodes(graph) for name in node.input}
    return {name: weight for name, weight in weights.items() if name in used}


def _replace(field: object, values: list[object]) -> None:
    """Give a repeated field of a message other values."""
    kept = [type(value).FromString(value.SerializeToString()) for value in values]  # type: ignore[attr-defined]
    del field[:]  # type: ignore[attr-defined]
    field.extend(kept)  # type: ignore[attr-defined]


def _remove(graph: onnx.GraphProto, outputs: Collection[str]) -> None:
    """Remove the nodes that make these values."""
    _replace(graph.node, [node for node in graph.node if node.output[0] not in outputs])


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Let nodes read other values."""
    for node in all_nodes(graph):
        for place, name in enumerate(node.input):
            if name in names:
                node.input[place] = names[name]


def _drop_copies(graph: onnx.GraphProto, weights: Mapping[str, Weight]) -> None:
    """Let what reads the copy of a weight (an `Identity`) read the weight."""
    outputs = {value.name for value in graph.output}
    copies: dict[str, str] = {}
    for node in graph.node:
        source = copies.get(node.input[0], node.input[0]) if node.op_type == "Identity" else ""
        if source in weights and node.output[0] not in outputs:
            copies[node.output[0]] = source
    _remove(graph, copies)
    _rename(graph, copies)


def _fold_transposes(graph: onnx.GraphProto, weights: dict[str, Weight]) -> None:
    """Store matrices as the graph multiplies by them, where it reads them in no other way."""
    readers: dict[str, list[onnx.NodeProto]] = {name: [] for name in weights}
    for node in all_nodes(graph):
        for name in node.input:
            if name in readers:
                readers[name].append(node)
    top = {node.output[0] for node in graph.node if node.output}
    renamed: dict[str, str] = {}
    for name, nodes in readers.items():
        is_matrix = weights[name].tensor.ndim == 2 and bool(nodes)
        if is_matrix and all(node.op_type == "Transpose" and node.output[0] in top for node in nodes):
            weights[f"{name}.transposed"] = Weight(weights.pop(name).tensor, transposed=True)
            renamed |= {node.output[0]: f"{name}.transposed" for node in nodes}
    _remove(graph, renamed)
    _rename(graph, renamed)


def fold_constants(model: onnx.ModelProto) -> None:
    """Compute what follows from small constants alone, such as the sizes that a tensor is reshaped to."""
    import onnx

    graph = model.graph
    outputs = {value.name for value in graph.output}
    values: dict[str, np.ndarray] = {}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            values[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
        elif node.op_type in _FOLDABLE and all(name in values or not name for name in node.input):
            made = _evaluate(node, values, model.opset_import)
            if made.nbytes <= _LARGEST_CONSTANT and node.output[0] not in outputs:
                values[node.output[0]] = made
                tensor = onnx.numpy_helper.from_array(made)
                node.CopyFrom(onnx.helper.make_node("Constant", [], node.output, name=node.name, value=tensor))
    used = {name for node in all_nodes(graph) for name in node.input} | outputs
    _remove(graph, [name for name in values if name not in used])


def _evaluate(
    node: onnx.NodeProto, values: Mapping[str, np.ndarray], opsets: Collection[onnx.OperatorSetIdProto]
) -> np.ndarray:
    """Run one node."""
    import numpy as np
    from onnx.reference import ReferenceEvaluator

    versions = {opset.domain: opset.version for opset in opsets}
    inputs = {name: values[name] for name in node.input if name}
    (made,) = list(ReferenceEvaluator(node, opsets=versions).run(None, inputs))
    return np.asarray(made)
