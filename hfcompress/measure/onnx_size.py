"""The weights of ONNX files: bytes, bits, and where in the model each belongs, though exporters lose most names."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hfcompress.modeling.onnx_seq2seq import pair_of

if TYPE_CHECKING:
    import onnx

OTHER = "other"
"""The component of what is no weight: the graph itself, constants, and what cannot be told."""

_STACKS = ("encoder", "decoder")
_SCOPES = "pkg.torch.onnx.name_scopes"
_STEPS = 4
_BITS = {"DOUBLE": 64, "FLOAT": 32, "FLOAT16": 16, "BFLOAT16": 16, "INT8": 8, "UINT8": 8, "INT4": 4, "UINT4": 4}
_PACKED = "MatMulNBits"
_FACTOR = {_PACKED: 1, "DequantizeLinear": 0, "GatherBlockQuantized": 0}
"""Which input holds the numbers, where others hold their scales."""


@dataclass(frozen=True)
class OnnxWeight:
    """An initializer of a graph.

    Args:
        name: Its name in the graph.
        module: The module of the PyTorch model that it comes from; empty where that cannot be told.
        bytes: What it takes in the file.
        elements: How many numbers it holds.
        bits: Of one number.
        is_matrix: Whether it is multiplied or looked up in, unlike biases, norms, scales and shapes.
    """

    name: str
    module: str
    bytes: int
    elements: int
    bits: int
    is_matrix: bool


def files_of(file: Path) -> tuple[Path, ...]:
    """Return the graphs that make up a model: one, or those of an encoder and a decoder that write.

    Raises:
        ModelError: One of the two is missing.
    """
    return pair_of(file) or (file,)


def onnx_bytes(file: Path) -> int:
    """Return the bytes of a model's graphs, weights in files beside them included."""
    paths = {path for graph in files_of(file) for path in (graph, *_external(graph))}
    return sum(path.stat().st_size for path in paths if path.is_file())


def _external(file: Path) -> set[Path]:
    """Return the files with a graph's large weights; without the onnx package those of the usual names."""
    if importlib.util.find_spec("onnx") is None:
        return set(file.parent.glob(f"{file.name}[._]data"))
    import onnx

    model = onnx.load(str(file), load_external_data=False)
    places = (entry.value for t in _initializers(model) for entry in t.external_data if entry.key == "location")
    return {file.parent / place for place in places}


def read_weights(file: Path, modules: Collection[str]) -> list[OnnxWeight] | None:
    """Find out what each weight of a model's graphs is.

    A weight keeps its name where an exporter leaves it (`bert.pooler.dense.weight`). Otherwise the node that takes it
    says where in the model it stands, in its own name (`/bert/encoder/layer.0/attention/self/query/MatMul`) or its
    metadata. Otherwise, as after fusion, the next node down the graph that says it: a MatMul goes with its bias.

    Args:
        file: One of the graphs.
        modules: The names of the PyTorch model's modules that hold weights.

    Returns:
        All of them; None where the onnx package is not installed.
    """
    if importlib.util.find_spec("onnx") is None:
        return None
    return [weight for path in files_of(file) for weight in _Graph(path, set(modules)).weights()]


def precision_of(weights: Collection[OnnxWeight]) -> str:
    """Name the numbers that a model's matrices are made of: `float32`, `int8`, …, or `mixed` (1 % are others)."""
    sizes: dict[int, int] = {}
    for weight in weights:
        if weight.is_matrix:
            sizes[weight.bits] = sizes.get(weight.bits, 0) + weight.elements
    total = sum(sizes.values())
    main = [bits for bits, size in sizes.items() if size >= 0.99 * total]
    if not main:
        return "mixed" if sizes else "float32"
    return f"float{main[0]}" if main[0] >= 16 else f"int{main[0]}"


class _Graph:
    """One ONNX file, and where its nodes stand in the PyTorch model."""

    def __init__(self, file: Path, modules: set[str]) -> None:
        import onnx

        self.modules = modules
        self.stack = next((stack for stack in _STACKS if file.name.startswith(f"{stack}_model")), "")
        model = onnx.load(str(file), load_external_data=False)
        self.initializers = _initializers(model)
        self.nodes = list(all_nodes(model.graph))
        self.takers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self.takers.setdefault(name, []).append(node)
        self.names = {tensor.name for tensor in self.initializers}

    def weights(self) -> Iterator[OnnxWeight]:
        """Yield all initializers."""
        for tensor in self.initializers:
            takers = self.takers.get(tensor.name, [])
            is_factor = all(
                node.input[_FACTOR[node.op_type]] == tensor.name for node in takers if node.op_type in _FACTOR
            )
            packed = next((node for node in takers if node.op_type == _PACKED and is_factor), None)
            bits = _attribute(packed, "bits", 4) if packed else _bits(tensor)
            size = _bytes(tensor)
            elements = _elements(tensor) * (8 // bits if packed else 1)
            is_matrix = len(tensor.dims) > 1 and bits > 0 and is_factor
            yield OnnxWeight(tensor.name, self._module_of(tensor.name), size, elements, bits, is_matrix)

    def _module_of(self, name: str) -> str:
        """Return the module that an initializer belongs to."""
        found = self._known(name)
        if found:
            return found
        nodes = self.takers.get(name, [])
        seen: set[int] = set()
        for _ in range(_STEPS):
            places = [place for node in nodes if (place := self._place(node))]
            if places:
                return places[0]
            seen.update(id(node) for node in nodes)
            outputs = [output for node in nodes for output in node.output]
            nodes = [node for output in outputs for node in self.takers.get(output, []) if id(node) not in seen]
        return ""

    def _place(self, node: onnx.NodeProto) -> str:
        """Return the module in which a node stands."""
        scopes = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "[]")
        own = [name for name in node.input if name in self.names]
        # Reversed: the innermost scope; and of what a fused norm takes the bias of the layer before it, which is last.
        paths = (node.name.lstrip("/").replace("/", "."), *reversed(ast.literal_eval(scopes)), *reversed(own))
        return next((found for path in paths if (found := self._known(path))), "")

    def _known(self, path: str) -> str:
        """Return the longest begin of a dotted path that is a module, perhaps below the stack that the file holds."""
        parts = path.split(".")
        for count in range(len(parts), 0, -1):
            begin = ".".join(parts[:count])
            bare = begin.removeprefix("model.")  # a wrapper's name, where the model's own does not begin so
            for candidate in (begin, bare, f"{self.stack}.{begin}", f"model.{self.stack}.{begin}"):
                if candidate in self.modules:
                    return candidate
        return ""


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield all nodes, those of branches included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from all_nodes(attribute.g)


def _initializers(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Return all initializers, those of branches included."""
    branches = (
        attribute.g for node in all_nodes(model.graph) for attribute in node.attribute if attribute.HasField("g")
    )
    return [tensor for graph in (model.graph, *branches) for tensor in graph.initializer]


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), default)


def _elements(tensor: onnx.TensorProto) -> int:
    count = 1
    for size in tensor.dims:
        count *= size
    return count


def _bits(tensor: onnx.TensorProto) -> int:
    import onnx

    return _BITS.get(onnx.TensorProto.DataType.Name(tensor.data_type), 0)


def _bytes(tensor: onnx.TensorProto) -> int:
    for entry in tensor.external_data:
        if entry.key == "length":
            return int(entry.value)
    return int(tensor.ByteSize())
