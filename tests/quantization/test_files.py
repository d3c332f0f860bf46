"""ONNX files opened sparingly: weights stay in the file, and what is written back is the same."""

import numpy as np
import onnx
import pytest

from hfcompress.errors import ModelError
from hfcompress.quantization.dynamic import quantize_dynamic
from hfcompress.quantization.files import bytes_on_disk, external, load_graph, numbers, save_graph
from tests.quantization.graphs import array, product, run, weights_of


@pytest.fixture
def weight():
    return array(160, 192)  # more than what is read at once


def test_large_weights_stay_in_the_file_and_are_mapped(tmp_path, weight):
    source = product(tmp_path / "a.onnx", "Gemm", weight)
    model = load_graph(source)
    assert [tensor.name for tensor in external(model)] == ["w"]
    assert model.ByteSize() < 2000
    np.testing.assert_array_equal(numbers(external(model)[0], tmp_path), weight)


def test_a_graph_written_back_is_the_same_graph(tmp_path, weight):
    source = product(tmp_path / "a.onnx", "Gemm", weight)
    save_graph(load_graph(source), tmp_path / "b.onnx", tmp_path)
    before, after = (onnx.load(str(tmp_path / name)) for name in ("a.onnx", "b.onnx"))
    for name, value in weights_of(source).items():
        np.testing.assert_array_equal(weights_of(tmp_path / "b.onnx")[name], value)
    del before.graph.initializer[:], after.graph.initializer[:]
    assert before == after


@pytest.mark.parametrize("limit", [None, 10_000])
def test_weights_beside_the_file_are_found_and_written(tmp_path, weight, limit):
    options = {"save_as_external_data": True, "location": "weights.bin"}
    plain = product(tmp_path / "plain.onnx", "Gemm", weight)
    model = onnx.load(str(plain))
    (tmp_path / "in").mkdir()
    onnx.save(model, str(tmp_path / "in" / "a.onnx"), **options)
    assert bytes_on_disk(tmp_path / "in" / "a.onnx") > weight.nbytes
    (tmp_path / "out").mkdir()
    target = tmp_path / "out" / "b.onnx"
    save_graph(load_graph(tmp_path / "in" / "a.onnx"), target, tmp_path / "in", **({"limit": limit} if limit else {}))
    assert sorted(path.name for path in target.parent.iterdir()) == ["b.onnx", *(["b.onnx_data"] if limit else [])]
    x = array(3, 160, seed=4)
    np.testing.assert_array_equal(run(target, x=x)[0], run(plain, x=x)[0])
    nodes = quantize_dynamic(target, tmp_path / "small.onnx")
    assert nodes.bytes_before == sum(path.stat().st_size for path in target.parent.iterdir())
    assert nodes.bytes_after < 0.3 * nodes.bytes_before


@pytest.mark.parametrize("spoil", [lambda data: data[: len(data) // 2], lambda data: b"\xff" * 50, lambda data: b"PK"])
def test_what_is_no_onnx_file_is_refused(tmp_path, weight, spoil):
    path = product(tmp_path / "a.onnx", "Gemm", weight)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ModelError, match=r"a\.onnx: cannot be read as an ONNX file\. Export the model anew"):
        load_graph(path)
