"""Weight-only files: 4 and 8 bits and float16 run in ONNX Runtime, are smaller, and hold a tied table once."""

import numpy as np
import pytest
from onnx import helper

from hfcompress.errors import DataError, ExportError, ModelError
from hfcompress.quantization.dynamic import quantize_dynamic
from hfcompress.quantization.half import Float16Config, quantize_float16
from hfcompress.quantization.weight_only import (
    Int4Config,
    Int8WeightsConfig,
    quantize_int4,
    quantize_int8_weights,
)
from tests.quantization.graphs import (
    OUTER,
    ROWS,
    WIDTH,
    array,
    kinds,
    optimized_kinds,
    product,
    run,
    tied,
    weights_of,
    write,
)

X = array(5, WIDTH, seed=3)
IDS = np.array([[0, 3, 3], [7, 39, 1]])


def four(source, target, **options):
    return quantize_int4(source, target, Int4Config(**{"block_size": 16, **options}))


def error(found, expected):
    return np.sqrt(np.mean((found - expected) ** 2)) / np.std(expected)


@pytest.mark.parametrize("attributes", [{}, {"transB": 1}])
@pytest.mark.parametrize("kind", ["MatMul", "Gemm"])
def test_products_become_four_bit_products_and_gemm_keeps_its_bias(tmp_path, kind, attributes):
    if kind == "MatMul" and attributes:
        pytest.skip("MatMul has no attribute")
    source = product(tmp_path / "a.onnx", kind, array(128, 96), **attributes)
    nodes = four(source, tmp_path / "b.onnx")
    x = array(7, 96 if attributes else 128, seed=1)
    assert nodes.names == {kind: ["product"]}
    assert kinds(tmp_path / "b.onnx").count("MatMulNBits") == 1
    assert error(run(tmp_path / "b.onnx", x=x)[0], run(source, x=x)[0]) < 0.12
    assert nodes.bytes_after < 0.25 * nodes.bytes_before


def test_columns_that_fill_no_whole_block_are_padded(tmp_path):
    source = product(tmp_path / "a.onnx", weight=array(136, 96))
    four(source, tmp_path / "b.onnx", block_size=32)
    x = array(3, 136, seed=1)
    assert error(run(tmp_path / "b.onnx", x=x)[0], run(source, x=x)[0]) < 0.12


@pytest.mark.parametrize("twice", [False, True])
def test_a_tied_table_is_stored_once_in_four_bits(tmp_path, twice):
    source = tied(tmp_path / "a.onnx", twice)
    nodes = four(source, tmp_path / "b.onnx")
    stored = weights_of(tmp_path / "b.onnx")
    tables = [name for name, held in stored.items() if held.dtype == np.uint8 and held.size == ROWS * WIDTH // 2]
    assert len(tables) == 1
    assert nodes.counts == {"Gather": 1, "MatMul": 1}
    assert {"GatherBlockQuantized", "MatMulNBits"} <= set(kinds(tmp_path / "b.onnx"))
    assert error(run(tmp_path / "b.onnx", ids=IDS)[0], run(source, ids=IDS)[0]) < 0.15


def test_the_four_bit_embedding_answers_what_its_blocks_stand_for(tmp_path):
    table = array(ROWS, WIDTH)
    node = helper.make_node("Gather", ["e", "ids"], ["y"], "embed")
    source = write(tmp_path / "a.onnx", [node], {"e": table}, {"ids": ["n"]})
    four(source, tmp_path / "b.onnx", algorithm="rtn")
    from hfcompress.quantization.blocks import round_to_blocks

    found = run(tmp_path / "b.onnx", ids=np.arange(ROWS))[0]
    np.testing.assert_array_equal(found, round_to_blocks(table, 16).weight())


def test_embeddings_of_eight_bits_of_no_whole_blocks_and_in_float(tmp_path):
    source = tied(tmp_path / "a.onnx", twice=True)
    four(source, tmp_path / "b.onnx", embedding_bits=8)
    assert "Gather" in kinds(tmp_path / "b.onnx")
    node = helper.make_node("Gather", ["e", "ids"], ["y"], "embed")
    odd = write(tmp_path / "c.onnx", [node], {"e": array(200, 40)}, {"ids": ["n"]})
    assert four(odd, tmp_path / "d.onnx").counts == {"Gather": 1}
    assert error(run(tmp_path / "d.onnx", ids=IDS[0])[0], run(odd, ids=IDS[0])[0]) < 0.01
    nodes = four(source, tmp_path / "e.onnx", no_quantize_embeddings=True)
    assert (nodes.counts, nodes.left) == ({"MatMul": 1}, {"Gather": ["embed"]})
    assert nodes.float_share == pytest.approx(0.5, abs=0.1)


def test_scales_are_half_precision_on_disk_and_cast_once_when_the_file_is_loaded(tmp_path):
    four(product(tmp_path / "a.onnx"), tmp_path / "b.onnx")
    assert [held.dtype for name, held in weights_of(tmp_path / "b.onnx").items() if name.endswith("scale")] == [
        "float16"
    ]
    assert "Cast" not in optimized_kinds(tmp_path / "b.onnx", tmp_path)


def test_gptq_needs_rows_and_answers_nearer_with_them(tmp_path):
    rng = np.random.default_rng(1)
    x = (rng.normal(size=(300, 4)) @ rng.normal(size=(4, 64))).astype(np.float32)
    source = product(tmp_path / "a.onnx", weight=array(64, 48))
    with pytest.raises(DataError, match="no rows to measure on"):
        four(source, tmp_path / "b.onnx", algorithm="gptq")
    assert four(source, tmp_path / "b.onnx").details["algorithm"] == "hqq"
    four(source, tmp_path / "plain.onnx", algorithm="rtn")
    quantize_int4(source, tmp_path / "b.onnx", Int4Config(block_size=16), [{"x": x[:150]}, {"x": x[150:]}])
    expected = run(source, x=x)[0]
    one, other = (error(run(tmp_path / name, x=x)[0], expected) for name in ("plain.onnx", "b.onnx"))
    assert other < 0.7 * one


def test_eight_bit_weights_cost_no_time_and_hardly_an_error(tmp_path):
    source = product(tmp_path / "a.onnx", "Gemm", array(128, 96))
    x = array(7, 128, seed=1)
    nodes = quantize_int8_weights(source, tmp_path / "b.onnx", Int8WeightsConfig())
    assert error(run(tmp_path / "b.onnx", x=x)[0], run(source, x=x)[0]) < 0.012
    assert {"Cast", "Mul", "DynamicQuantizeLinear"}.isdisjoint(optimized_kinds(tmp_path / "b.onnx", tmp_path))
    assert nodes.bytes_after < 0.3 * nodes.bytes_before
    table = tied(tmp_path / "c.onnx")
    quantize_int8_weights(table, tmp_path / "d.onnx", Int8WeightsConfig())
    assert sum(held.dtype == np.int8 for held in weights_of(tmp_path / "d.onnx").values()) == 1
    assert error(run(tmp_path / "d.onnx", ids=IDS)[0], run(table, ids=IDS)[0]) < 0.02


def test_half_precision_halves_the_file_and_is_computed_in_float(tmp_path):
    source = product(tmp_path / "a.onnx", weight=array(128, 96))
    nodes = quantize_float16(source, tmp_path / "b.onnx", Float16Config())
    x = array(7, 128, seed=1)
    np.testing.assert_allclose(run(tmp_path / "b.onnx", x=x)[0], run(source, x=x)[0], rtol=1e-2, atol=1e-2)
    assert nodes.bytes_after < 0.52 * nodes.bytes_before
    assert optimized_kinds(tmp_path / "b.onnx", tmp_path) == ["MatMul"]


def test_what_half_precision_cannot_hold_stays(tmp_path):
    source = product(tmp_path / "a.onnx", weight=array(WIDTH, OUTER) * 1e6)
    with pytest.raises(ExportError, match="float16 weights does not make"):
        quantize_float16(source, tmp_path / "b.onnx", Float16Config())
    assert not (tmp_path / "b.onnx").exists()


def test_a_quantized_graph_is_refused_by_every_method(tmp_path):
    source = product(tmp_path / "a.onnx", weight=array(128, 96))
    quantize_dynamic(source, tmp_path / "b.onnx")
    four(source, tmp_path / "c.onnx")
    for made in ("b.onnx", "c.onnx"):
        for again in (
            lambda file: quantize_dynamic(file, tmp_path / "d.onnx"),
            lambda file: four(file, tmp_path / "d.onnx"),
            lambda file: quantize_float16(file, tmp_path / "d.onnx", Float16Config()),
        ):
            with pytest.raises(ModelError, match="is quantized already"):
                again(tmp_path / made)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_damaged_weights_are_refused(tmp_path, bad):
    weight = array(128, 96)
    weight[3, 4] = bad
    with pytest.raises(ModelError, match="not finite"):
        four(product(tmp_path / "a.onnx", weight=weight), tmp_path / "b.onnx")
