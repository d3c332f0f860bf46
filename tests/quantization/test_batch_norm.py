"""Folded batch normalisations: the same answers, fewer nodes; what others take, or what is not constant, stays."""

import numpy as np
import pytest
from onnx import helper

from hfcompress.quantization.batch_norm import fold_batch_norms
from tests.quantization.graphs import array, kinds, run, weights_of, write

CHANNELS = 6
IMAGE = {"x": ["batch", 3, 8, 8]}


def norm(source, target, **attributes):
    names = [f"{target}_{part}" for part in ("gamma", "beta", "mean", "variance")]
    values = [array(CHANNELS, seed=number) for number in range(3)] + [np.abs(array(CHANNELS, seed=3)) + 0.1]
    return helper.make_node("BatchNormalization", [source, *names], [target], **attributes), dict(
        zip(names, values, strict=True)
    )


def graph(path, biased=False, shared=False, seen=False):
    """Convolution, normalisation and activation; the kernel may be another convolution's too, the product an output."""
    weights = {"w": array(CHANNELS, 3, 3, 3, seed=5)} | ({"b": array(CHANNELS, seed=6)} if biased else {})
    nodes = [helper.make_node("Conv", ["x", *weights], ["c"], pads=[1, 1, 1, 1])]
    node, more = norm("c", "n", epsilon=1e-3)
    nodes += [node, helper.make_node("Relu", ["n"], ["y"])]
    if shared:
        nodes.append(helper.make_node("Conv", ["x", "w"], ["z"], pads=[1, 1, 1, 1]))
    outputs = ["y", *(["z"] if shared else []), *(["c"] if seen else [])]
    return write(path, nodes, weights | more, IMAGE, outputs)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_answers_stay(biased, shared, tmp_path):
    file = graph(tmp_path / "model.onnx", biased, shared)
    x = array(2, 3, 8, 8, seed=9)
    before, kernel = run(file, x=x), weights_of(file)["w"]
    assert fold_batch_norms(file) == 1
    assert kinds(file) == ["Conv", *(["Conv"] if shared else []), "Relu"]
    for one, other in zip(before, run(file, x=x), strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5)
    assert sorted(weights_of(file)) == sorted({"w", "n_bias"} | ({"w_n"} if shared else set()))
    assert np.array_equal(weights_of(file)["w"], kernel) is shared
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_by_hand(tmp_path):
    weights = {"w": np.full((1, 1, 1, 1), 3.0, np.float32)}
    numbers = {"gamma": 2.0, "beta": 5.0, "mean": 1.0, "variance": 0.75}
    weights |= {name: np.array([value], np.float32) for name, value in numbers.items()}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", *numbers], ["y"], epsilon=0.25),
    ]
    file = write(tmp_path / "model.onnx", nodes, weights, {"x": ["batch", 1, 2, 2]})
    assert fold_batch_norms(file) == 1
    found = weights_of(file)  # 2 (3 x − 1) / √(0.75 + 0.25) + 5 = 6 x + 3
    assert (found["w"].item(), found["y_bias"].item()) == (6.0, 3.0)


def test_what_others_take_stays(tmp_path):
    file = graph(tmp_path / "model.onnx", seen=True)
    before = file.read_bytes()
    assert fold_batch_norms(file) == 0
    assert file.read_bytes() == before


def test_a_normalisation_of_something_else_stays(tmp_path):
    node, weights = norm("x", "y")
    file = write(tmp_path / "model.onnx", [node], weights, {"x": ["batch", CHANNELS, 4, 4]})
    assert fold_batch_norms(file) == 0
