"""Static int8: ranges measured without padding, integer kernels, equalisation that changes no answer."""

import numpy as np
import onnx
import pytest
from onnx import helper

from hfcompress.errors import DataError
from hfcompress.quantization.observing import largest_inputs, observe
from hfcompress.quantization.ranges import BINS, Seen, look, range_of
from hfcompress.quantization.smooth import SmoothQuantConfig, quantize_smooth, smooth
from hfcompress.quantization.static import StaticConfig, activation_grid, quantize_static, write_static
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


def rows(count=4, width=WIDTH, seed=5):
    return [{"x": array(6, width, seed=seed + index)} for index in range(count)]


def error(found, expected):
    return np.sqrt(np.mean((found - expected) ** 2)) / np.std(expected)


def layers(path):
    """Two products that take the same normalised input, a third behind them."""
    nodes = [
        helper.make_node("LayerNormalization", ["x", "g", "b"], ["n"], "norm"),
        helper.make_node("MatMul", ["n", "w"], ["h"], "one"),
        helper.make_node("MatMul", ["n", "v"], ["k"], "two"),
        helper.make_node("Mul", ["h", "k"], ["m"]),
        helper.make_node("MatMul", ["m", "u"], ["y"], "three"),
    ]
    gain = np.exp(array(WIDTH, seed=7))
    weights = {"g": gain, "b": array(WIDTH, seed=8), "w": array(WIDTH, OUTER), "v": array(WIDTH, OUTER, seed=1)}
    return write(path, nodes, weights | {"u": array(OUTER, WIDTH, seed=2)}, {"x": ["rows", WIDTH]})


@pytest.mark.parametrize("calibrator", ["auto", "minmax", "percentile", "entropy"])
def test_a_static_file_answers_nearly_alike_at_unseen_shapes(tmp_path, calibrator):
    source = layers(tmp_path / "a.onnx")
    result = quantize_static(source, tmp_path / "b.onnx", StaticConfig(calibrator=calibrator), rows())
    x = array(11, WIDTH, seed=50)
    assert error(run(tmp_path / "b.onnx", x=x)[0], run(source, x=x)[0]) < 0.15
    assert result.counts == {"MatMul": 3}
    errors = result.details["calibrator_errors"]
    assert errors[result.details["calibrator"]] == min(errors.values())
    assert len(errors) == (3 if calibrator == "auto" else 1)
    assert kinds(tmp_path / "b.onnx").count("QuantizeLinear") == 2  # the shared input is rounded once
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "b.onnx"]


def test_onnx_runtime_computes_products_in_integers(tmp_path):
    quantize_static(product(tmp_path / "a.onnx", "Gemm"), tmp_path / "b.onnx", StaticConfig(), rows())
    assert "MatMulIntegerToFloat" in optimized_kinds(tmp_path / "b.onnx", tmp_path)


def test_exact_ranges_give_exact_answers(tmp_path):
    weight = np.zeros((WIDTH, OUTER), np.float32)
    weight[0], weight[1] = 0.5, -0.25
    write_static(product(tmp_path / "a.onnx", weight=weight), tmp_path / "b.onnx", {"x": (-2.0, 1.984375)})
    x = np.zeros((3, WIDTH), np.float32)
    x[:, 0], x[:, 1] = [1.0, -2.0, 5.0], [0.5, 0.0, 0.0]
    assert activation_grid(-2.0, 1.984375)[0] == 2**-6
    np.testing.assert_array_equal(run(tmp_path / "b.onnx", x=x)[0][:, 0], [0.375, -1.0, 0.9921875])


def test_convolutions_are_computed_in_integers(tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "first", kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "v"], ["y"], "second", kernel_shape=[3, 3]),
    ]
    weights = {"w": array(32, 8, 3, 3), "b": array(32), "v": array(16, 32, 3, 3, seed=1)}
    source = write(tmp_path / "a.onnx", nodes, weights, {"x": ["n", 8, 9, 9]})
    batches = [{"x": array(2, 8, 9, 9, seed=seed)} for seed in range(4)]
    assert quantize_static(source, tmp_path / "b.onnx", StaticConfig(), batches).counts == {"Conv": 2}
    x = array(3, 8, 9, 9, seed=9)
    assert error(run(tmp_path / "b.onnx", x=x)[0], run(source, x=x)[0]) < 0.06
    assert optimized_kinds(tmp_path / "b.onnx", tmp_path).count("QLinearConv") == 2


def test_a_tied_table_is_stored_once(tmp_path):
    source, ids = tied(tmp_path / "a.onnx"), np.array([[0, 3], [7, 39]])
    quantize_static(source, tmp_path / "b.onnx", StaticConfig(), [{"ids": np.arange(ROWS)[None]}])
    assert error(run(tmp_path / "b.onnx", ids=ids)[0], run(source, ids=ids)[0]) < 0.05
    assert sum(held.dtype == np.int8 and held.size > ROWS for held in weights_of(tmp_path / "b.onnx").values()) == 1


def test_padding_does_not_widen_a_range(tmp_path):
    nodes = [helper.make_node("Identity", ["x"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"], "product")]
    source = write(tmp_path / "a.onnx", nodes, {"w": array(WIDTH, OUTER)}, {"x": ["b", "n", WIDTH], "ids": ["b", "n"]})
    model = onnx.load(str(source))
    model.graph.input[1].name = "attention_mask"
    onnx.save(model, str(source))
    x = array(2, 3, WIDTH)
    x[1, 1:] = 1e6
    mask = np.array([[1, 1, 1], [1, 0, 0]])
    batches = [{"x": x, "attention_mask": mask}]
    assert look(source, ["h"], batches)["h"].high == x[mask.astype(bool)].max()
    (values,) = observe(source, ["h"], batches)
    assert values["h"].shape == (4, WIDTH)
    assert largest_inputs(source, ["h"], batches)["h"].max() == np.abs(x[mask.astype(bool)]).max()


def test_calibrators_by_hand():
    counts = np.zeros(BINS)
    counts[: BINS // 4] = 1000.0
    counts[-1] = 1.0  # one outlier at four times the rest
    seen = Seen(0.0, 4.0, counts)
    assert range_of(seen, "minmax") == (0.0, 4.0)
    assert range_of(seen, "percentile", 99.0) == (0.0, pytest.approx(1.0, abs=0.01))
    assert range_of(seen, "percentile", 100) == (0.0, 4.0)
    counts[:-1] = np.floor(1e6 * np.exp(-np.arange(BINS - 1) / 8))
    low, high = range_of(seen, "entropy")
    assert low == 0.0
    assert 0.2 < high < 1.0  # the tail is worth less than the resolution of the rest
    for kind in ("minmax", "percentile", "entropy"):
        assert range_of(Seen(), kind) == (0.0, 0.0)  # a value that is always 0


def test_a_value_that_is_always_zero_is_borne(tmp_path):
    source = product(tmp_path / "a.onnx")
    batches = [{"x": np.zeros((4, WIDTH), np.float32)}]
    quantize_static(source, tmp_path / "b.onnx", StaticConfig(), batches)
    np.testing.assert_array_equal(run(tmp_path / "b.onnx", **batches[0])[0], np.zeros((4, OUTER)))


@pytest.mark.parametrize(
    ("batches", "said"),
    [
        ([], "no rows to measure on"),
        (None, "no rows to measure on"),
        ([{"x": np.full((2, WIDTH), np.nan, np.float32)}], "not finite"),
        ([{"x": np.zeros((2, WIDTH + 1), np.float32)}], "cannot run on x"),
    ],
)
def test_rows_that_measure_nothing_are_refused_and_leave_nothing(tmp_path, batches, said):
    source = product(tmp_path / "a.onnx")
    for quantize, config in ((quantize_static, StaticConfig()), (quantize_smooth, SmoothQuantConfig())):
        with pytest.raises(DataError, match=said):
            quantize(source, tmp_path / "b.onnx", config, batches)
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]


def test_a_smoothed_graph_answers_as_before(tmp_path):
    source = layers(tmp_path / "a.onnx")
    peaks = largest_inputs(source, ["n", "m"], rows())
    assert smooth(source, tmp_path / "b.onnx", peaks, 0.5) == ["n", "m"]
    x = array(9, WIDTH, seed=50)
    np.testing.assert_allclose(run(tmp_path / "b.onnx", x=x)[0], run(source, x=x)[0], rtol=1e-4, atol=1e-4)
    assert kinds(tmp_path / "b.onnx").count("Mul") == 2  # the normalisation took the other factors in


def test_an_input_that_something_else_takes_is_multiplied(tmp_path):
    nodes = [
        helper.make_node("LayerNormalization", ["x", "g", "b"], ["n"], "norm"),
        helper.make_node("MatMul", ["n", "w"], ["h"], "one"),
        helper.make_node("Add", ["h", "n"], ["y"]),
    ]
    weights = {"g": np.exp(array(WIDTH, seed=7)), "b": array(WIDTH), "w": array(WIDTH, WIDTH)}
    source = write(tmp_path / "a.onnx", nodes, weights, {"x": ["rows", WIDTH]})
    smooth(source, tmp_path / "b.onnx", largest_inputs(source, ["n"], rows()), 0.7)
    x = array(9, WIDTH, seed=50)
    np.testing.assert_allclose(run(tmp_path / "b.onnx", x=x)[0], run(source, x=x)[0], rtol=1e-4, atol=1e-4)
    assert kinds(tmp_path / "b.onnx").count("Mul") == 1


def test_smoothing_helps_where_a_column_is_huge(tmp_path):
    source = product(tmp_path / "a.onnx", weight=array(64, 48))
    batches = rows(width=64)
    for batch in batches:
        batch["x"][:, 3] *= 100
    x, plain, even = batches[0]["x"], tmp_path / "b.onnx", tmp_path / "c.onnx"
    quantize_static(source, plain, StaticConfig(), batches)
    result = quantize_smooth(source, even, SmoothQuantConfig(), batches)
    expected = run(source, x=x)[0]
    rest = expected - np.outer(x[:, 3], weights_of(source)["w"][3])  # what is not drowned by that column
    one, other = (np.std(run(file, x=x)[0] - expected) / np.std(rest) for file in (plain, even))
    assert other < 0.7 * one
    assert result.method == "static int8, smoothed"
