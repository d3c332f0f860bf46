"""A graph and the graphs inside its nodes: which weight a name stands for, and what nothing takes any more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import onnx


class Found(NamedTuple):
    """A weight behind a name: the tensor, the graph that holds it, and whether the name stands for its transpose."""

    tensor: onnx.TensorProto
    graph: onnx.GraphProto
    transposed: bool


class Scope:
    """One graph with its weights, and the graphs around it.

    Args:
        graph: The graph: the file's own, or a branch of an `If` or `Loop` inside it.
        outer: The scope around it, whose weights it sees too.
    """

    def __init__(self, graph: onnx.GraphProto, outer: Scope | None = None) -> None:
        self.graph = graph
        self.outer = outer
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.producers = {output: node for node in graph.node for output in node.output}

    def find(self, name: str) -> Found | None:
        """Return the weight that a name stands for, through `Identity` and `Transpose`; None for an activation."""
        if name in self.weights:
            return Found(self.weights[name], self.graph, False)
        node = self.producers.get(name)
        if node is None:
            return self.outer.find(name) if self.outer else None
        if node.op_type not in ("Identity", "Transpose"):
            return None
        found = self.find(node.input[0])
        if found is None or node.op_type == "Identity":
            return found
        return found._replace(transposed=not found.transposed) if len(found.tensor.dims) == 2 else None


def attribute(node: onnx.NodeProto, name: str, default: float) -> float:
    """Return a number among a node's attributes."""
    import onnx

    for held in node.attribute:
        if held.name == name:
            return onnx.helper.get_attribute_value(held)
    return default


def node_name(node: onnx.NodeProto) -> str:
    """Return what a node is called: its name, or that of its output where it has none."""
    return node.name or node.output[0]


def scopes(graph: onnx.GraphProto, outer: Scope | None = None) -> Iterator[Scope]:
    """Walk through a graph and the graphs inside its nodes, the outer ones first."""
    scope = Scope(graph, outer)
    yield scope
    for node in graph.node:
        for held in node.attribute:
            for inner in [held.g] if held.HasField("g") else held.graphs:
                yield from scopes(inner, scope)


def remove_unused(model: onnx.ModelProto) -> None:
    """Remove nodes and weights that nothing takes any more."""
    removed = True
    while removed:
        every = list(scopes(model.graph))
        used = {name for scope in every for node in scope.graph.node for name in node.input}
        used |= {output.name for scope in every for output in scope.graph.output}
        removed = False
        for scope in reversed(every):
            dead = [index for index, node in enumerate(scope.graph.node) if used.isdisjoint(node.output)]
            for index in reversed(dead):
                del scope.graph.node[index]
            removed = removed or bool(dead)
            for index in reversed(range(len(scope.graph.initializer))):
                if scope.graph.initializer[index].name not in used:
                    del scope.graph.initializer[index]
