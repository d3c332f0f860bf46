"""Writing a graph with its weights, one weight at a time: protobuf itself would hold all of them several times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from hfcompress.export.layout import LARGEST_FILE, external_name

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from torch import Tensor

_ALIGNMENT = 4096  # so that a weight in a second file can be mapped into memory
_SMALL = 1024  # bytes; smaller weights stay in the graph's own file, where shape inference finds them

# Numbers of the fields in onnx.proto.
_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_RAW_DATA = 7, 5, 9


@dataclass(frozen=True)
class Weight:
    """A weight on its way into a graph.

    Args:
        tensor: The model's own tensor; nothing is copied before it is written.
        transposed: Whether the graph takes it the other way round, `(in, out)`.
    """

    tensor: Tensor
    transposed: bool = False

    @property
    def shape(self) -> list[int]:
        """Its sizes in the graph."""
        return list(self.tensor.shape[::-1] if self.transposed else self.tensor.shape)

    @property
    def byte_count(self) -> int:
        """What it takes in the file."""
        return self.tensor.numel() * self.tensor.element_size()

    def array(self) -> np.ndarray:
        """Return its contents."""
        import numpy as np

        found: np.ndarray = self.tensor.detach().cpu().numpy()
        return np.ascontiguousarray(found.T) if self.transposed else found

    def header(self, name: str) -> onnx.TensorProto:
        """Return all but its contents."""
        import onnx
        import torch

        kind = onnx.helper.np_dtype_to_tensor_dtype(torch.empty(0, dtype=self.tensor.dtype).numpy().dtype)
        return onnx.TensorProto(name=name, dims=self.shape, data_type=kind)


def write_graph(model: onnx.ModelProto, weights: Mapping[str, Weight], file: Path, largest: int = LARGEST_FILE) -> None:
    """Write a graph; where one file would be too large, the weights go into a second one beside it.

    Args:
        model: The graph; initializers that it has already are kept.
        weights: What is added to them, by name.
        file: Where it goes.
        largest: Bytes that one file may have.
    """
    size = model.ByteSize() + sum(weight.byte_count + len(name) + 64 for name, weight in weights.items())
    if size > largest:
        weights = _write_external(model, weights, file.with_name(external_name(file)))
    frame, graph = _split(model)
    fields = {name: _initializer_start(name, weight) for name, weight in weights.items()}
    length = len(graph) + sum(len(start) + weights[name].byte_count for name, start in fields.items())
    with file.open("wb") as out:
        out.write(frame + _field(_MODEL_GRAPH, length) + graph)
        for name, start in fields.items():
            out.write(start)
            _write_array(out, weights[name])


def _write_external(model: onnx.ModelProto, weights: Mapping[str, Weight], file: Path) -> dict[str, Weight]:
    """Write the large weights into a file of their own, refer to it in the graph, and return the small ones."""
    import onnx

    with file.open("wb") as out:
        for name, weight in weights.items():
            if weight.byte_count < _SMALL:
                continue
            out.write(bytes(-out.tell() % _ALIGNMENT))
            header = weight.header(name)
            header.data_location = onnx.TensorProto.EXTERNAL
            place = {"location": file.name, "offset": out.tell(), "length": weight.byte_count}
            for key, value in place.items():
                header.external_data.add(key=key, value=str(value))
            model.graph.initializer.append(header)
            _write_array(out, weight)
    return {name: weight for name, weight in weights.items() if weight.byte_count < _SMALL}


def _split(model: onnx.ModelProto) -> tuple[bytes, bytes]:
    """Return the bytes of a model without its graph, and those of the graph."""
    import onnx

    frame = onnx.ModelProto()
    frame.CopyFrom(model)
    frame.ClearField("graph")
    return frame.SerializeToString(), model.graph.SerializeToString()


def _initializer_start(name: str, weight: Weight) -> bytes:
    """Return what stands before a weight's contents: the beginning of a graph's field, and the weight's header."""
    header = weight.header(name).SerializeToString() + _field(_TENSOR_RAW_DATA, weight.byte_count)
    return _field(_GRAPH_INITIALIZER, len(header) + weight.byte_count) + header


def _field(number: int, length: int) -> bytes:
    """Return the start of a protobuf field that holds `length` bytes."""
    return _varint(number << 3 | 2) + _varint(length)


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _write_array(out: BinaryIO, weight: Weight) -> None:
    import numpy as np

    out.write(weight.array().reshape(-1).view(np.uint8).data)
