"""Graphs as transformers' exporter makes them: optimized without their weights, and named as Optimum names them."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx
    import onnx_ir
    from torch import Tensor

    from hfcompress.export.backends.native_graphs import Axes

_SMALLEST_WEIGHT = 1024
"""Numbers in the smallest tensor that is a weight; smaller ones stay, since constants are computed from them."""

_SCOPES = "pkg.torch.onnx.name_scopes"


def take_out_weights(model: onnx_ir.Model) -> dict[str, Tensor]:
    """Make inputs of a graph's weights, so that optimizing copies none; one that has two names loses one.

    Returns:
        The model's own tensors by name.
    """
    import torch

    graph = model.graph
    weights: dict[str, Tensor] = {}
    names: dict[tuple[object, ...], str] = {}
    for name, value in list(graph.initializers.items()):
        tensor = getattr(value.const_value, "raw", None)
        if not isinstance(tensor, torch.Tensor) or tensor.numel() < _SMALLEST_WEIGHT:
            continue
        same = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        del graph.initializers[name]
        if same in names:
            first = next(known for known in graph.inputs if known.name == names[same])
            value.replace_all_uses_with(first)
            continue
        names[same], weights[name] = name, tensor
        value.const_value = None
        graph.inputs.append(value)
    return weights


def tidy(model: onnx_ir.Model, axes: Axes, inputs: list[str]) -> None:
    """Optimize a graph, and give it Optimum's names; nothing of where it was made stays in it.

    Args:
        model: The graph; changed in place.
        axes: Names of the free axes of inputs and outputs.
        inputs: Names of the inputs, in order; weights may follow.
    """
    from onnxscript import optimizer

    optimizer.optimize_ir(model, should_fold=lambda node: False if node.op_type == "Resize" else None)
    _reorder_gelu(model)
    for value, name in zip(model.graph.inputs, inputs, strict=False):
        value.name = name
    _name_axes(model, axes)
    _name_nodes(model)
    _forget_origins(model)
    model.graph.name = "model"


def to_proto(model: onnx_ir.Model) -> onnx.ModelProto:
    """Return a graph as it is stored.

    What it says of the shapes of constants is left out: tools that turn a constant round leave that as it was.
    """
    import onnx_ir

    proto = onnx_ir.to_proto(model)
    stored = {tensor.name for tensor in proto.graph.initializer}
    kept = [value for value in proto.graph.value_info if value.name not in stored]
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(kept)
    return proto


def _values(model: onnx_ir.Model) -> Iterator[onnx_ir.Value]:
    """Go through all that a graph takes or computes."""
    yield from model.graph.inputs
    for node in model.graph.all_nodes():
        yield from node.outputs


def _reorder_gelu(model: onnx_ir.Model) -> None:
    """Turn x·(½·(1 + erf)) into (x·(1 + erf))·½, the order in which ONNX Runtime knows GELU and runs it as one step."""
    for node in model.graph.all_nodes():
        chain = [node]
        while len(chain) < 4 and len(users := chain[-1].outputs[0].uses()) == 1:
            chain.append(users[0].node)
        if [one.op_type for one in chain] != ["Erf", "Add", "Mul", "Mul"]:
            continue
        _, plus_one, inner, outer = chain
        factor = next(place for place, value in enumerate(inner.inputs) if value is not plus_one.outputs[0])
        states = next(place for place, value in enumerate(outer.inputs) if value is not inner.outputs[0])
        half, x = inner.inputs[factor], outer.inputs[states]
        if half is not None and half.const_value is not None and half.const_value.size == 1:
            inner.replace_input_with(factor, x)
            outer.replace_input_with(states, half)


def _name_axes(model: onnx_ir.Model, axes: Axes) -> None:
    """Name the free axes of inputs and outputs, and those that follow from them in between.

    ONNX Runtime takes axes of one name for axes of one size; tools that infer shapes need them all to have names.
    """
    import onnx_ir

    names: dict[str, str] = {}
    for value in model.graph.inputs:
        for axis, name in axes.get(value.name or "", {}).items():
            names.setdefault(str(value.shape[axis]) if value.shape is not None else "", name)
    for value in _values(model):
        if value.shape is not None:
            given = axes.get(value.name or "", {})
            sizes = [_renamed(size, names) for size in value.shape]
            value.shape = onnx_ir.Shape([given.get(axis, size) for axis, size in enumerate(sizes)])


def _renamed(size: int | onnx_ir.SymbolicDim, names: Mapping[str, str]) -> int | str | None:
    """Return an axis's size, or the expression for it in the inputs' names."""
    if isinstance(size, int) or size.value is None:
        return size if isinstance(size, int) else None
    return re.sub(r"[A-Za-z]\w*", lambda found: names.get(found[0], found[0]), str(size.value))


def _name_nodes(model: onnx_ir.Model) -> None:
    """Name nodes by the layer that they belong to, as in `/bert/encoder/layer.0/attention/self/query/MatMul`."""
    seen: Counter[str] = Counter()
    for node in model.graph.all_nodes():
        scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
        deepest = next((scope for scope in reversed(scopes[:-1]) if scope), "").removeprefix("model.")
        name = f"/{deepest}/{node.op_type}" if deepest else f"/{node.op_type}"
        node.name = f"{name}_{seen[name]}" if seen[name] else name
        seen[name] += 1


def _forget_origins(model: onnx_ir.Model) -> None:
    """Drop what tracing noted down: it holds the paths of source files."""
    for holder in (model, model.graph, *model.graph.all_nodes(), *_values(model), *model.graph.initializers.values()):
        holder.metadata_props.clear()
        holder.doc_string = None
