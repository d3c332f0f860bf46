"""Dynamic int8: every weight within half a step, names kept, nothing that could saturate."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper

from hfcompress.errors import ExportError, RequestError
from hfcompress.quantization.dynamic import quantizable, quantize_dynamic
from hfcompress.quantization.rewriter import LARGEST, LARGEST_IN_PRODUCT, quantize_weight
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

pytest.importorskip("onnxruntime")
X = array(5, WIDTH, seed=3)


def near(found, expected, share=0.02):
    """Int8 rounds weights to 7 bits and activations to 8: a share of the largest output is what that may cost."""
    np.testing.assert_allclose(found, expected, atol=share * np.abs(expected).max())


@given(
    arrays.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.floats(-100, 100, width=32)),
    st.sampled_from([0, 1]),
    st.sampled_from([LARGEST, LARGEST_IN_PRODUCT]),
)
def test_weights_come_back_within_half_a_step_and_keep_their_range(weight, axis, largest):
    integers, scale = quantize_weight(weight, axis, largest)
    steps = np.expand_dims(scale, 1 - axis)
    assert np.abs(integers.astype(int)).max() <= largest
    assert (np.abs(integers * steps - weight) <= steps * 0.5001).all()
    assert scale.shape == (weight.shape[axis],)


def test_an_exact_weight_is_kept_exactly_with_a_scale_for_each_output(tmp_path):
    weight = np.zeros((WIDTH, OUTER), np.float32)
    weight[0] = 64 * 2.0 ** np.arange(-24, 24)
    weight[1] = -weight[0] / 2
    quantize_dynamic(product(tmp_path / "a.onnx", weight=weight), tmp_path / "b.onnx")
    stored = weights_of(tmp_path / "b.onnx")
    assert (stored["w_int8_1"][0] == 64).all()
    assert (stored["w_int8_1"][1] == -32).all()
    assert (stored["w_int8_1_scale"] == 2.0 ** np.arange(-24, 24)).all()


@pytest.mark.parametrize("width", [96, 128, 192])
def test_a_product_answers_nearly_alike_and_the_file_shrinks(tmp_path, width):
    weight = array(128, width)
    source = product(tmp_path / "a.onnx", weight=weight)
    nodes = quantize_dynamic(source, tmp_path / "b.onnx")
    x = array(7, 128, seed=1)
    near(run(tmp_path / "b.onnx", x=x)[0], x @ weight)
    assert nodes.counts == {"MatMul": 1}
    assert nodes.names == {"MatMul": ["product"]}
    assert (nodes.bytes_before, nodes.bytes_after) == (source.stat().st_size, (tmp_path / "b.onnx").stat().st_size)
    assert nodes.bytes_after < 0.4 * nodes.bytes_before


def test_inputs_outputs_and_their_axes_keep_their_names(tmp_path):
    quantize_dynamic(product(tmp_path / "a.onnx"), tmp_path / "b.onnx")
    before, after = (onnx.load(str(tmp_path / name)) for name in ("a.onnx", "b.onnx"))
    assert list(before.graph.input) == list(after.graph.input)
    assert list(before.graph.output) == list(after.graph.output)
    assert (after.opset_import, after.ir_version, after.producer_name) == (before.opset_import, 9, "hand")


def test_extreme_activations_and_weights_give_exact_sums_whatever_the_instruction(tmp_path):
    """u8 · s8 pairs are added in 16 bits without VNNI: full-range weights would saturate here, 7 bits do not."""
    weight = np.ones((WIDTH, WIDTH), np.float32)
    weight[:, 1::2] = -1
    source = product(tmp_path / "a.onnx", weight=weight)
    quantize_dynamic(source, tmp_path / "b.onnx")
    x = np.concatenate([np.ones((3, WIDTH), np.float32), np.zeros((1, WIDTH), np.float32)])
    np.testing.assert_allclose(run(tmp_path / "b.onnx", x=x)[0], x @ weight, rtol=1e-6)
    assert 255 * LARGEST_IN_PRODUCT * 2 < 2**15


def test_weights_of_products_span_seven_bits_and_embeddings_eight(tmp_path):
    embedding, weight = array(ROWS, WIDTH), array(WIDTH, OUTER)
    nodes = [
        helper.make_node("Gather", ["e", "ids"], ["x"], "embed"),
        helper.make_node("MatMul", ["x", "w"], ["y"], "product"),
    ]
    source = write(tmp_path / "a.onnx", nodes, {"e": embedding, "w": weight}, {"ids": ["batch", "length"]})
    quantize_dynamic(source, tmp_path / "b.onnx")
    stored = weights_of(tmp_path / "b.onnx")
    assert np.abs(stored["w_int8_1"].astype(int)).max() == 64
    assert (np.abs(stored["e_int8"].astype(int)).max(axis=1) == 127).all()
    assert {name for name, value in stored.items() if value.dtype == np.int8} == {"w_int8_1", "e_int8"}
    assert "w" not in stored


@pytest.mark.parametrize(("outputs", "alike"), [(WIDTH // 2, True), (WIDTH, False), (2 * WIDTH, False)])
def test_tokens_far_larger_than_the_others_do_not_blur_them_where_a_product_narrows(outputs, alike, tmp_path):
    weight = array(WIDTH, outputs)
    quantize_dynamic(product(tmp_path / "a.onnx", weight=weight), tmp_path / "b.onnx")
    x = X.copy()
    x[2] *= 1000
    found, expected = run(tmp_path / "b.onnx", x=x)[0], x @ weight
    near(found[2], expected[2])
    others = [0, 1, 3, 4]
    off = np.abs(found - expected)[others].max() / np.abs(expected[others]).max()
    assert bool(off < 0.03) is alike


@pytest.mark.parametrize("outputs", [WIDTH // 2, 2 * WIDTH])
def test_rows_of_zeros_stay_zero(outputs, tmp_path):
    quantize_dynamic(product(tmp_path / "a.onnx", weight=array(WIDTH, outputs)), tmp_path / "b.onnx")
    assert (run(tmp_path / "b.onnx", x=np.zeros((2, WIDTH), np.float32))[0] == 0).all()


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_is_quantized_with_its_bias(tmp_path, transposed):
    weight = array(OUTER, WIDTH) if transposed else array(WIDTH, OUTER)
    source = product(tmp_path / "a.onnx", "Gemm", weight, transB=transposed)
    nodes = quantize_dynamic(source, tmp_path / "b.onnx")
    near(run(tmp_path / "b.onnx", x=X)[0], run(source, x=X)[0])
    assert nodes.counts == {"Gemm": 1}
    assert "Gemm" not in kinds(tmp_path / "b.onnx")


@pytest.mark.parametrize("attributes", [{"alpha": 2.0}, {"beta": 0.5}])
def test_a_graph_with_nothing_to_quantize_is_refused(tmp_path, attributes):
    source = product(tmp_path / "a.onnx", "Gemm", **attributes)
    with pytest.raises(ExportError, match=r"int8 does not make a.onnx smaller: .* \(nodes quantized: none\)"):
        quantize_dynamic(source, tmp_path / "b.onnx")
    assert not (tmp_path / "b.onnx").exists()


def test_embeddings_have_a_scale_for_each_row(tmp_path):
    embedding = array(ROWS, WIDTH) * np.float32(2) ** np.arange(ROWS, dtype=np.float32)[:, None]
    node = helper.make_node("Gather", ["e", "ids"], ["y"], "embed")
    quantize_dynamic(write(tmp_path / "a.onnx", [node], {"e": embedding}, {"ids": ["n"]}), tmp_path / "b.onnx")
    (found,) = run(tmp_path / "b.onnx", ids=np.arange(ROWS))
    assert (np.abs(found - embedding) <= np.abs(embedding).max(axis=1, keepdims=True) / 127 * 0.501).all()


@pytest.mark.parametrize("twice", [False, True])
def test_tied_weights_are_stored_once(tmp_path, twice):
    source = tied(tmp_path / "a.onnx", twice)
    nodes = quantize_dynamic(source, tmp_path / "b.onnx")
    ids = np.arange(ROWS).reshape(4, -1)
    near(run(tmp_path / "b.onnx", ids=ids)[0], run(source, ids=ids)[0])
    stored = [value for value in weights_of(tmp_path / "b.onnx").values() if value.dtype == np.int8]
    assert [value.shape for value in stored] == [(ROWS, WIDTH)]
    assert np.abs(stored[0].astype(int)).max() == LARGEST_IN_PRODUCT
    assert nodes.counts == {"Gather": 1, "MatMul": 1}


def test_excluded_embeddings_stay_float(tmp_path):
    source = tied(tmp_path / "a.onnx", twice=True)
    nodes = quantize_dynamic(source, tmp_path / "b.onnx", embeddings=False)
    assert (nodes.counts, nodes.left) == ({"MatMul": 1}, {"Gather": ["embed"]})
    np.testing.assert_array_equal(weights_of(tmp_path / "b.onnx")["e"], weights_of(source)["e"])
    assert quantizable(source) == ["embed", "head"]
    assert quantizable(source, embeddings=False) == ["head"]


def two_products(path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "first"),
        helper.make_node("MatMul", ["h", "v"], ["y"], "second"),
    ]
    return write(path, nodes, {"w": array(WIDTH, OUTER), "v": array(OUTER, WIDTH)}, {"x": ["rows", WIDTH]})


def test_kept_nodes_are_untouched(tmp_path):
    source = two_products(tmp_path / "a.onnx")
    nodes = quantize_dynamic(source, tmp_path / "b.onnx", keep_float=["second"])
    assert (nodes.kept_float, nodes.names) == (["second"], {"MatMul": ["first"]})
    kept = [node for node in onnx.load(str(tmp_path / "b.onnx")).graph.node if node.op_type == "MatMul"]
    assert [list(node.input) for node in kept] == [["h", "v"]]
    np.testing.assert_array_equal(weights_of(tmp_path / "b.onnx")["v"], weights_of(source)["v"])


def test_all_nodes_kept_answer_exactly_as_before(tmp_path):
    source = two_products(tmp_path / "a.onnx")
    nodes = quantize_dynamic(source, tmp_path / "b.onnx", keep_float=quantizable(source))
    assert nodes.counts == {}
    np.testing.assert_array_equal(run(tmp_path / "b.onnx", x=X)[0], run(source, x=X)[0])


def test_a_name_to_keep_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(RequestError, match="keep_float: the graph quantizes no node 'frist'. Did you mean 'first'?"):
        quantize_dynamic(two_products(tmp_path / "a.onnx"), tmp_path / "b.onnx", keep_float=["frist"])


def test_a_head_of_few_labels_stays_float_and_is_named(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "first"),
        helper.make_node("MatMul", ["h", "v"], ["y"], "head"),
    ]
    weights = {"w": array(WIDTH, OUTER), "v": array(OUTER, 2)}
    source = write(tmp_path / "a.onnx", nodes, weights, {"x": ["rows", WIDTH]})
    found = quantize_dynamic(source, tmp_path / "b.onnx")
    assert (found.counts, found.left) == ({"MatMul": 1}, {"MatMul": ["head"]})


def test_products_of_two_activations_stay_float(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "first"),
        helper.make_node("Transpose", ["h"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["h", "t"], ["y"], "scores"),
    ]
    source = write(tmp_path / "a.onnx", nodes, {"w": array(WIDTH, OUTER)}, {"x": ["rows", WIDTH]})
    assert quantizable(source) == ["first"]


def test_convolutions_are_stored_in_int8_and_computed_in_float(tmp_path):
    node = helper.make_node("Conv", ["x", "w"], ["y"], "conv", kernel_shape=[3, 3])
    source = write(tmp_path / "a.onnx", [node], {"w": array(32, 8, 3, 3)}, {"x": [1, 8, 9, 9]})
    nodes = quantize_dynamic(source, tmp_path / "b.onnx")
    x = array(1, 8, 9, 9, seed=2)
    near(run(tmp_path / "b.onnx", x=x)[0], run(source, x=x)[0])
    assert nodes.counts == {"Conv": 1}
    assert {"Cast", "Mul", "DynamicQuantizeLinear"}.isdisjoint(optimized_kinds(tmp_path / "b.onnx", tmp_path))


def test_one_weight_taken_by_two_nodes_is_stored_once_and_activations_are_rounded_once(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "first"),
        helper.make_node("Identity", ["w"], ["same"]),
        helper.make_node("MatMul", ["x", "same"], ["b"], "second"),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    source = write(tmp_path / "a.onnx", nodes, {"w": array(WIDTH, OUTER)}, {"x": ["rows", WIDTH]})
    quantize_dynamic(source, tmp_path / "b.onnx")
    assert [value.dtype for value in weights_of(tmp_path / "b.onnx").values()].count(np.int8) == 1
    assert kinds(tmp_path / "b.onnx").count("DynamicQuantizeLinear") == 1
    near(run(tmp_path / "b.onnx", x=X)[0], run(source, x=X)[0])


def test_onnx_runtime_makes_one_integer_kernel_of_each_product(tmp_path):
    weights = {"w": array(WIDTH, WIDTH), "b": array(WIDTH)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "product"),
        helper.make_node("Add", ["b", "h"], ["y"], "bias"),
    ]
    quantize_dynamic(write(tmp_path / "a.onnx", nodes, weights, {"x": ["n", 4, WIDTH]}), tmp_path / "b.onnx")
    assert optimized_kinds(tmp_path / "b.onnx", tmp_path) == ["DynamicQuantizeMatMul"]


def test_an_addition_before_a_normalisation_is_not_fused_into_the_slow_kernel(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "product"),
        helper.make_node("Add", ["h", "x"], ["s"], "residual"),
        helper.make_node("LayerNormalization", ["s", "g", "b"], ["y"], "norm"),
    ]
    weights = {"w": array(WIDTH, WIDTH), "g": array(WIDTH), "b": array(WIDTH)}
    source = write(tmp_path / "a.onnx", nodes, weights, {"x": ["n", 4, WIDTH]})
    quantize_dynamic(source, tmp_path / "b.onnx")
    assert "SkipLayerNormalization" not in optimized_kinds(tmp_path / "b.onnx", tmp_path)
    x = array(2, 4, WIDTH, seed=5)
    near(run(tmp_path / "b.onnx", x=x)[0], run(source, x=x)[0])


def branches(path):
    """A graph whose two branches multiply by the same outer weight, as merged decoders do."""

    def branch(name, factor):
        nodes = [
            helper.make_node("MatMul", ["x", "w"], [f"{name}_h"], f"{name}_product"),
            helper.make_node("Mul", [f"{name}_h", factor], [f"{name}_y"]),
        ]
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, None)])

    nodes = [
        helper.make_node("Greater", ["flag", "zero"], ["use"]),
        helper.make_node("If", ["use"], ["y"], then_branch=branch("then", "two"), else_branch=branch("else", "three")),
    ]
    weights = {
        "w": array(WIDTH, OUTER),
        **{name: np.float32(value) for name, value in {"zero": 0, "two": 2, "three": 3}.items()},
    }
    return write(path, nodes, weights, {"x": ["rows", WIDTH], "flag": []})


@pytest.mark.parametrize("flag", [0.0, 1.0])
def test_branches_of_a_graph_share_one_quantized_weight(tmp_path, flag):
    source = branches(tmp_path / "a.onnx")
    nodes = quantize_dynamic(source, tmp_path / "b.onnx")
    assert nodes.counts == {"MatMul": 2}
    flag = np.array(flag, np.float32)
    near(run(tmp_path / "b.onnx", x=X, flag=flag)[0], run(source, x=X, flag=flag)[0])
    assert [value.dtype for value in weights_of(tmp_path / "b.onnx").values()].count(np.int8) == 1


def test_the_file_answers_alike_with_and_without_the_runtimes_own_fusions(tmp_path):
    quantize_dynamic(two_products(tmp_path / "a.onnx"), tmp_path / "b.onnx")
    plain = run(tmp_path / "b.onnx", onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL, x=X)[0]
    np.testing.assert_allclose(run(tmp_path / "b.onnx", x=X)[0], plain, rtol=1e-4, atol=1e-4)
