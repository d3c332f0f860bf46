"""Puts weights of fewer bits and the nodes that use them in the place of float ones; here those of dynamic int8."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hfcompress.quantization.files import numbers
from hfcompress.quantization.graph import Scope, remove_unused
from hfcompress.quantization.weights import Candidate

if TYPE_CHECKING:
    import onnx

LARGEST_IN_PRODUCT = 64
"""Largest magnitude of an int8 weight that integers are multiplied with; `quantize_dynamic` says why."""
LARGEST = 127
"""Largest magnitude of the others."""
_FLOAT = 1  # onnx.TensorProto.FLOAT
_PRODUCTS = ("MatMul", "Gemm")


def quantize_weight(weight: np.ndarray, axis: int, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """Round a weight to int8, symmetric, with a scale for each slice along an axis: `weight ≈ integers · scale`.

    Args:
        weight: Float numbers of any shape.
        axis: The axis along which scales differ.
        largest: The largest magnitude an integer may have.

    Returns:
        The integers, and the scales, `(weight.shape[axis],)`.

    Example:
        >>> integers, scale = quantize_weight(np.array([[1.0, -0.5], [0.0, 0.0]]), 0, 64)
        >>> integers.tolist(), scale.tolist()
        ([[64, -32], [0, 0]], [0.015625, 1.0])
    """
    others = tuple(index for index in range(weight.ndim) if index != axis)
    peak = np.maximum(weight.max(axis=others), -weight.min(axis=others)).astype(np.float32)
    smallest = np.finfo(np.float32).tiny  # a scale below it would round to 0
    scale = np.where(peak > 0, np.maximum(peak / np.float32(largest), smallest), np.float32(1))
    scaled = weight / np.expand_dims(scale, others)
    np.rint(scaled, out=scaled)
    return np.clip(scaled, -largest, largest, out=scaled).astype(np.int8), scale


Write = Callable[["Rewriter", Candidate], None]
"""Writes one node in fewer bits."""


class Rewriter:
    """Rewrites the chosen nodes of all graphs of a file.

    Args:
        model: The file; it is changed.
        every: Its graphs, the outer ones first.
        chosen: The nodes to quantize.
        folder: Where weights lie that are not in the file.
        writers: How each is written, by the node's name; in int8 with dynamic scales unless given.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        every: list[Scope],
        chosen: list[Candidate],
        folder: Path,
        writers: Mapping[str, Write] | None = None,
    ) -> None:
        self.model = model
        self.every = every
        self.folder = folder
        self.writers = writers or {}
        self.chosen = {(id(item.scope), item.node.output[0]): item for item in chosen}
        self.embedded = {item.weight.tensor.name for item in chosen if item.kind == "Gather"}
        self.multiplied = {item.weight.tensor.name for item in chosen if item.kind in _PRODUCTS and item.axis == 0}
        self.scales: dict[str, np.ndarray] = {}
        self.held: set[str] = set()
        self.types: dict[str, np.dtype[np.generic]] = {}
        self.rounded: dict[tuple[str, bool], list[str]] = {}
        self.settled: dict[str, Callable[[str, str], None]] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.cached = any(value.name.startswith("past_key_values") for value in model.graph.input)
        self.count = 0

    def rewrite(self) -> None:
        """Rewrite every graph, the inner ones first, since a node is copied together with the graphs inside it."""
        for scope in reversed(self.every):
            self.rounded, self.nodes = {}, []
            normalised = {node.input[0] for node in scope.graph.node if node.op_type == "LayerNormalization"}
            for node in scope.graph.node:
                item = self.chosen.get((id(scope), node.output[0]))
                if item is not None:
                    self.writers.get(item.name, Rewriter.int8)(self, item)
                    continue
                if node.op_type == "Add" and node.output[0] in normalised:
                    node.op_type = "Sum"
                self.keep(node)
            del scope.graph.node[:]
            scope.graph.node.extend(self.nodes)
        remove_unused(self.model)

    def int8(self, item: Candidate) -> None:
        """Write a node in int8 with dynamic scales."""
        write = {"MatMul": self.product, "Gemm": self.product, "Gather": self.embedding, "Conv": self.convolution}
        write[item.kind](item)

    def keep(self, node: onnx.NodeProto) -> None:
        """Append a float node; an output that is to be rounded (`settled`) goes through its rounding first."""
        settle = self.settled.pop(node.output[0], None) if node.output else None
        self.nodes.append(node)
        if settle is not None:
            name = node.output[0]
            node.output[0] = f"{name}_before_rounding"
            settle(node.output[0], name)

    def product(self, item: Candidate) -> None:
        """Multiply in integers: `(activations · weights) · (scale of the one · scales of the other) + bias`."""
        node = item.node
        shared = item.axis == 0 and item.weight.tensor.name in self.embedded
        integers, scale = self.store(item, LARGEST_IN_PRODUCT, transpose=item.axis == 0 and not shared)
        if shared:
            integers = self.add("Transpose", [integers], perm=[1, 0])
        sizes = item.weight.tensor.dims
        narrows = sizes[item.axis] < sizes[1 - item.axis]
        activations, activation_scale, zero_point, *peaks = self.round(node.input[0], apart=narrows)
        total = self.add("MatMulInteger", [activations, integers, zero_point])
        bias = node.input[2] if len(node.input) > 2 else ""
        steps = [("Mul", self.add("Mul", [activation_scale, scale])), *(("Mul", peak) for peak in peaks)]
        steps += [("Add", bias)] if bias else []
        total = self.add("Cast", [total], to=_FLOAT)
        for index, (kind, other) in enumerate(steps):
            total = self.add(kind, [total, other], node.output[0] if index == len(steps) - 1 else "")

    def round(self, name: str, apart: bool) -> list[str]:
        """Round activations to unsigned 8 bits, once for all products that take them.

        Args:
            name: The activations.
            apart: Whether each row (token) is divided by its largest magnitude before.

        Returns:
            Names of the integers, their scale, their zero point and, if apart, the rows' largest magnitudes.
        """
        if (name, apart) not in self.rounded:
            rows, peaks = name, []
            if apart:
                axis, tiny = self.constant("last_axis", np.array([-1])), self.constant("tiny", np.float32(1e-20))
                peak = self.add("ReduceMax", [self.add("Abs", [name]), axis], keepdims=1)
                if self.cached:  # of no rows at all, as the encoder's are later on, ONNX Runtime keeps every column
                    first, second = (self.constant(f"place_{at}", np.array([at])) for at in (0, 1))
                    peak = self.add("Slice", [peak, first, second, axis])
                peaks = [self.add("Max", [peak, tiny])]
                rows = self.add("Div", [name, *peaks])
            self.rounded[name, apart] = [*self.add_many("DynamicQuantizeLinear", [rows], 3), *peaks]
        return self.rounded[name, apart]

    def embedding(self, item: Candidate) -> None:
        """Gather int8 rows and their scales."""
        largest = LARGEST_IN_PRODUCT if item.weight.tensor.name in self.multiplied else LARGEST
        integers, scale = self.store(item, largest, column=True)
        rows = self.add("Gather", [integers, item.node.input[1]], axis=0)
        scales = self.add("Gather", [scale, item.node.input[1]], axis=0)
        self.add("Mul", [self.add("Cast", [rows], to=_FLOAT), scales], item.node.output[0])

    def convolution(self, item: Candidate) -> None:
        """Give a convolution its weight from int8; ONNX Runtime computes a constant once, when it loads the file."""
        integers, scale = self.store(item, LARGEST, column=True)
        weight = self.add("Mul", [self.add("Cast", [integers], to=_FLOAT), scale])
        item.node.input[1] = weight
        self.nodes.append(item.node)

    def store(self, item: Candidate, largest: int, transpose: bool = False, column: bool = False) -> tuple[str, str]:
        """Put a weight's integers and scales beside the float weight, once, and return their names.

        Args:
            item: Whose weight.
            largest: The largest magnitude an integer may have.
            transpose: Whether the integers are stored transposed.
            column: Whether the scales have an axis of length 1 for each of the weight's other axes.
        """
        tensor = item.weight.tensor
        name = f"{tensor.name}_int8" + ("_transposed" if transpose else "") + (f"_{item.axis}" if item.axis else "")
        if name not in self.scales:
            integers, self.scales[name] = quantize_weight(numbers(tensor, self.folder), item.axis, largest)
            self.hold(item.weight.graph, name, np.ascontiguousarray(integers.T) if transpose else integers)
        scale = self.scales[name].reshape(-1, *[1] * (len(tensor.dims) - 1)) if column else self.scales[name]
        return name, self.hold(item.weight.graph, name + ("_scale_column" if column else "_scale"), scale)

    def constant(self, name: str, array: np.ndarray) -> str:
        """Add a constant to the file's own graph, once, and return its name."""
        return self.hold(self.model.graph, f"int8_{name}", array)

    def hold(self, graph: onnx.GraphProto, name: str, array: np.ndarray) -> str:
        """Add an array to a graph's weights, unless it is there, and return its name."""
        import onnx

        if name not in self.held:
            graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
            self.held.add(name)
            self.types[name] = array.dtype
        return name

    def add(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        """Append a node with one output and return the output's name, a new one unless given."""
        return self.add_many(kind, inputs, 1, output, **attributes)[0]

    def add_many(self, kind: str, inputs: list[str], count: int, output: str = "", **attributes: Any) -> list[str]:
        """Append a node with several outputs and return their names."""
        import onnx

        self.count += 1
        name = f"int8_{kind}_{self.count}"
        outputs = [output] if output else [f"{name}_{index}" for index in range(count)]
        if attributes.get("domain") and all(held.domain != attributes["domain"] for held in self.model.opset_import):
            self.model.opset_import.append(onnx.helper.make_opsetid(attributes["domain"], 1))
        self.nodes.append(onnx.helper.make_node(kind, inputs, outputs, name, **attributes))
        return outputs
