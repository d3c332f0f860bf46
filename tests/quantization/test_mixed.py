"""Mixed precision: bits by node, the losses of each alone, and the cheapest choice within a budget."""

import numpy as np
import pytest
from onnx import helper

from hfcompress.errors import RequestError
from hfcompress.quantization.answers import answers
from hfcompress.quantization.convert import convert_beside
from hfcompress.quantization.mixed import (
    FLOAT,
    INT4,
    INT8,
    MixedConfig,
    Part,
    measure_losses,
    mixed_writer,
    parts_of,
    quantize_mixed,
    spread,
    upgrades,
    within_costs,
)
from hfcompress.quantization.weight_only import FourBit
from tests.quantization.graphs import ROWS, WIDTH, array, kinds, run, tied, write

FOUR = FourBit(block_size=16)


def chain(path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "one"),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "v"], ["k"], "two"),
        helper.make_node("MatMul", ["k", "u"], ["y"], "three"),
    ]
    weights = {name: array(WIDTH, WIDTH, seed=seed) for seed, name in enumerate("wvu")}
    return write(path, nodes, weights, {"x": ["rows", WIDTH]})


def test_each_node_has_the_bits_that_it_was_given(tmp_path):
    source = chain(tmp_path / "a.onnx")
    made = quantize_mixed(
        source, tmp_path / "b.onnx", MixedConfig(block_size=16, bits={"one": 8, "two": 4, "three": 32})
    )
    found = kinds(tmp_path / "b.onnx")
    assert [found.count(kind) for kind in ("MatMulInteger", "MatMulNBits", "MatMul")] == [1, 1, 1]
    assert made.left == {"MatMul": ["three"]}
    x = array(3, WIDTH, seed=9)
    assert np.corrcoef(run(tmp_path / "b.onnx", x=x)[0].ravel(), run(source, x=x)[0].ravel())[0, 1] > 0.98


@pytest.mark.parametrize("twice", [False, True])
def test_nodes_that_share_a_weight_share_a_decision(tmp_path, twice):
    parts = parts_of(tied(tmp_path / "a.onnx", twice), FOUR)
    (part,) = parts.values()
    assert part.nodes == ("embed", "head")
    assert part.sizes == {FLOAT: 4 * ROWS * WIDTH, INT8: ROWS * WIDTH + 4 * ROWS, INT4: ROWS * 2 * (8 + 2.5)}
    assert part.products == ROWS * WIDTH
    assert parts_of(tmp_path / "a.onnx", FOUR, embeddings=False).keys() <= {"head"}


def test_losses_alone_are_measured_on_trials_beside_the_float_file_and_fewer_bits_lose_more(tmp_path):
    source, batches = chain(tmp_path / "a.onnx"), [{"x": array(64, WIDTH, seed=9)}]
    parts, trial = parts_of(source, FOUR), tmp_path / "trial.onnx"

    def make(bits):
        convert_beside(source, trial, mixed_writer(FOUR, bits))
        return trial

    losses = measure_losses(parts, make, lambda file: answers(file, batches), answers(source, batches))
    assert list(losses) == ["one", "two", "three"]
    for loss in losses.values():
        assert 0 == loss[FLOAT] < loss[INT8] < loss[INT4] < 0.1
    together = make(spread(parts, dict.fromkeys(parts, INT4)))
    error = np.mean((answers(together, batches)[0] - answers(source, batches)[0]) ** 2) / np.var(
        answers(source, batches)[0]
    )
    assert error == pytest.approx(sum(loss[INT4] for loss in losses.values()), rel=0.3)  # they add up


SIZES = {FLOAT: 400, INT8: 100, INT4: 50}
PARTS = {name: Part((name,), SIZES, 1) for name in ("a", "b")}
LOSSES = {"a": {FLOAT: 0.0, INT8: 0.1, INT4: 0.9}, "b": {FLOAT: 0.0, INT8: 0.01, INT4: 0.02}}


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (100, {"a": 4, "b": 4}),
        (150, {"a": 8, "b": 4}),
        (200, {"a": 8, "b": 8}),
        (450, {"a": 32, "b": 4}),
        (800, {"a": 32, "b": 32}),
    ],
)
def test_a_budget_goes_where_it_saves_the_most(budget, expected):
    assert within_costs(PARTS, LOSSES, dict.fromkeys(PARTS, SIZES), budget) == expected


def test_a_budget_below_the_smallest_file_is_refused():
    with pytest.raises(RequestError, match="budget"):
        within_costs(PARTS, LOSSES, dict.fromkeys(PARTS, SIZES), 99)


def test_what_costs_no_time_stays_float():
    costs = {"a": {FLOAT: 3.0, INT8: 1.0, INT4: 2.0}, "b": {FLOAT: 0.0, INT8: 0.0, INT4: 0.0}}
    assert within_costs(PARTS, LOSSES, costs, 1.0) == {"a": 8, "b": 32}


def test_bits_are_given_back_where_a_byte_wins_most():
    assert upgrades(PARTS, LOSSES) == [("a", 8), ("a", 32), ("b", 8), ("b", 32)]


def test_a_step_that_loses_is_passed_over():
    losses = {"a": {FLOAT: 0.0, INT8: 0.5, INT4: 0.4}}
    assert upgrades({"a": PARTS["a"]}, losses) == [("a", 32)]
