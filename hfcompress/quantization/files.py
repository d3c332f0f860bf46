"""ONNX files opened sparingly: nodes are read, weights stay in the file until one is asked for."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hfcompress.errors import Fault, ModelError

if TYPE_CHECKING:
    import onnx

SINGLE_FILE_LIMIT = 2**31 - 2**20
"""Bytes above which a file's weights are written beside it: protobuf reads no message of 2 GiB."""

_SMALL = 2**16  # bytes; smaller weights (biases, the constants of patterns that fusions look for) are read at once

# Numbers of the fields in onnx.proto, and of protobuf's kinds of fields.
_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_RAW_DATA = 7, 5, 9
_VARINT, _EIGHT_BYTES, _LENGTH_DELIMITED, _FOUR_BYTES = 0, 1, 2, 5


def load_graph(source: Path) -> onnx.ModelProto:
    """Read an ONNX file without its large weights.

    Protobuf would hold all of them, and the whole file beside them while it parses. Here each large weight becomes a
    reference to its place in the file, of the kind that ONNX has for weights in a file of their own.

    Raises:
        ModelError: It is no ONNX file.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            frame, graph, large = _split(data)
            model = onnx.ModelProto.FromString(frame)
            model.graph.MergeFromString(graph)
            model.graph.initializer.extend([_reference(data, place, source.name) for place in large])
            if not model.opset_import or not model.graph.output:
                raise ValueError("there is no graph in it")
            return model
    except (DecodeError, IndexError, ValueError) as error:
        fix = "Export the model anew: the file may be incomplete."
        raise ModelError(Fault(str(source), "cannot be read as an ONNX file.", fix)) from error


def numbers(tensor: onnx.TensorProto, folder: Path) -> np.ndarray:
    """Return a weight's numbers; those that lie in a file of the folder are mapped, not read."""
    import onnx

    if not onnx.external_data_helper.uses_external_data(tensor):
        return onnx.numpy_helper.to_array(tensor)
    place = onnx.external_data_helper.ExternalDataInfo(tensor)
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return np.memmap(folder / place.location, kind, "r", offset=int(place.offset or 0), shape=tuple(tensor.dims))


def save_graph(model: onnx.ModelProto, target: Path, folder: Path, limit: int = SINGLE_FILE_LIMIT) -> None:
    """Write a graph into one file, or, past the limit, with its weights in `NAME.onnx_data` beside it.

    Args:
        model: The graph; used up by this. Weights that were not read are copied from file to file.
        target: The file; an existing one is replaced, but not the one that the graph came from.
        folder: Where the weights lie that were not read.
        limit: Bytes that one file may have.
    """
    import onnx

    beside = target.name + "_data"
    (target.parent / beside).unlink(missing_ok=True)
    arrays = {tensor.name: numbers(tensor, folder) for tensor in external(model)}
    if model.ByteSize() + sum(array.nbytes for array in arrays.values()) <= limit:
        _stream(model, arrays, target)
        return
    for tensor in external(model):
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.asarray(arrays[tensor.name]), tensor.name))
    onnx.save(model, str(target), save_as_external_data=True, location=beside)


def _stream(model: onnx.ModelProto, arrays: dict[str, np.ndarray], target: Path) -> None:
    """Write a graph and after it, one at a time, the weights that were not read."""
    weights = model.graph.initializer
    starts = []
    for index in reversed(range(len(weights))):
        if weights[index].name in arrays:
            tensor = weights[index]
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
            size = arrays[tensor.name].nbytes
            inner = tensor.SerializeToString() + _start(_TENSOR_RAW_DATA, size)
            starts.append((_start(_GRAPH_INITIALIZER, len(inner) + size) + inner, arrays[tensor.name]))
            del weights[index]
    graph = model.graph.SerializeToString()
    model.ClearField("graph")
    length = len(graph) + sum(len(start) + array.nbytes for start, array in starts)
    with target.open("wb") as out:
        out.write(model.SerializeToString() + _start(_MODEL_GRAPH, length))
        out.write(graph)
        for start, array in starts:
            out.write(start)
            out.write(np.ascontiguousarray(array).data)


def _start(number: int, length: int) -> bytes:
    """Return what stands before a field's content in a protobuf message: its key and its length."""
    written = bytearray()
    for value in (number << 3 | _LENGTH_DELIMITED, length):
        while value > 127:
            written.append(value & 127 | 128)
            value >>= 7
        written.append(value)
    return bytes(written)


def external(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Return the weights that lie in a file and were not read."""
    import onnx

    return [tensor for tensor in model.graph.initializer if onnx.external_data_helper.uses_external_data(tensor)]


def bytes_on_disk(file: Path) -> int:
    """Return the size of a graph, with the data that lies beside it."""
    import onnx

    weights = external(load_graph(file))
    names = {file.name} | {onnx.external_data_helper.ExternalDataInfo(tensor).location for tensor in weights}
    return sum((file.parent / name).stat().st_size for name in names)


def _split(data: mmap.mmap) -> tuple[bytes, bytes, list[slice]]:
    """Return what a file says beside its graph, the graph without its large weights, and these weights' places."""
    frame, graph, large = [], [], []
    for number, whole, content in _fields(data, 0, len(data)):
        if number != _MODEL_GRAPH:
            frame.append(data[whole])
            continue
        for inner_number, inner_whole, inner in _fields(data, content.start, content.stop):
            if inner_number == _GRAPH_INITIALIZER and inner.stop - inner.start > _SMALL:
                large.append(inner)
            else:
                graph.append(data[inner_whole])
    return b"".join(frame), b"".join(graph), large


def _reference(data: mmap.mmap, place: slice, file_name: str) -> onnx.TensorProto:
    """Return a weight whose numbers stay in the file."""
    import onnx

    fields = list(_fields(data, place.start, place.stop))
    tensor = onnx.TensorProto.FromString(
        b"".join(data[whole] for number, whole, _ in fields if number != _TENSOR_RAW_DATA)
    )
    for number, _, content in fields:
        if number == _TENSOR_RAW_DATA:
            tensor.data_location = onnx.TensorProto.EXTERNAL
            where = {"location": file_name, "offset": content.start, "length": content.stop - content.start}
            for key, value in where.items():
                tensor.external_data.add(key=key, value=str(value))
    return tensor


def _fields(data: mmap.mmap, start: int, stop: int) -> Iterator[tuple[int, slice, slice]]:
    """Walk through the fields of a protobuf message: number, place with its key, place of its content."""
    at = start
    while at < stop:
        key, content = _varint(data, at)
        kind = key & 7
        if kind == _LENGTH_DELIMITED:
            length, content = _varint(data, content)
            end = content + length
        elif kind == _VARINT:
            end = _varint(data, content)[1]
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            end = content + (8 if kind == _EIGHT_BYTES else 4)
        else:
            raise ValueError(f"protobuf has no field of kind {kind}")
        if end > stop:
            raise ValueError("a field ends after its message")
        yield key >> 3, slice(at, end), slice(content, end)
        at = end


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    """Return a number of variable length, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
