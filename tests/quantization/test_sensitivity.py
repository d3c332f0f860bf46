"""Sensitivity: the order of the nodes, and the fewest of them that keep the quality."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfcompress.quantization.sensitivity import DropError, fewest_float_nodes, rank_nodes, relative_error


def test_the_error_is_relative_to_the_spread_of_the_reference():
    reference = [np.array([1.0, -1.0]), np.array([3.0, -3.0])]
    assert relative_error(reference, reference) == 0
    assert relative_error(reference, [part * 1.1 for part in reference]) == pytest.approx(0.1)
    assert relative_error([np.ones(3)], [np.zeros(3)]) == 1


def test_nodes_are_ranked_by_what_each_costs_alone():
    cost = {"a": 0.1, "b": 0.4, "c": 0.2, "d": 0.4}
    made = []

    def make(kept):
        made.append(set(kept))
        return Path("/".join(sorted(set(cost) - set(kept))))

    def answers(path):
        return [np.array([1.0, -1.0]) * (1 + sum(cost[name] for name in path.parts))]

    groups = {name: [name] for name in cost}
    assert rank_nodes(groups, make, answers, [np.array([1.0, -1.0])]) == ["b", "d", "c", "a"]
    assert made == [set(cost) - {name} for name in cost]


def qualities(lost):
    """Quality as a function of the kept nodes: each node loses so much while it is quantized."""
    return lambda kept: 1 - sum(value for name, value in lost.items() if name not in kept)


@given(st.lists(st.integers(0, 5), max_size=25), st.integers(0, 40))
def test_the_prefix_is_the_shortest_that_keeps_a_quality_that_grows(losses, allowed):
    lost = {f"n{index}": value / 64 for index, value in enumerate(sorted(losses, reverse=True))}
    measured = []

    def selected(kept):
        measured.append(len(kept))
        return qualities(lost)(kept)

    choice = fewest_float_nodes(lambda: list(lost), selected, qualities(lost), (1.0, 1.0), allowed / 64)
    expected = next(count for count in range(len(lost) + 1) if 1 - qualities(lost)(list(lost)[:count]) <= allowed / 64)
    assert choice.kept_float == tuple(lost)[:expected]
    assert choice.drop_selected == choice.drop_confirmed == 1 - qualities(lost)(list(lost)[:expected]) <= allowed / 64
    assert len(measured) == len(set(measured)) <= 2 * max(1, len(lost)).bit_length() + 2


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0, 1))
def test_whatever_the_noise_a_choice_keeps_the_quality_or_says_that_none_does(noise, allowed):
    names = [f"n{index}" for index in range(len(noise) - 1)]

    def quality(kept):
        return 1 - noise[len(kept)]

    try:
        choice = fewest_float_nodes(lambda: names, quality, quality, (1.0, 1.0), allowed)
    except DropError as error:
        best = error.best
        choice = None
    if choice is None:
        assert best.drop_selected > allowed
        assert best.drop_selected == min(1 - one.quality for one in best.tries)
    else:
        assert max(choice.drop_selected, choice.drop_confirmed) <= allowed


def not_asked():
    raise AssertionError("the ranking takes long, and nothing needs it")


def test_nothing_stays_in_float_where_nothing_is_lost_and_one_measurement_is_enough():
    choice = fewest_float_nodes(not_asked, lambda kept: 0.9, lambda kept: 0.8, (0.9, 0.8), 0.005)
    assert choice.to_dict() == {
        "kept_float": (),
        "drop_selected": 0.0,
        "drop_confirmed": 0.0,
        "tries": ({"count": 0, "quality": 0.9},),
        "confirmations": 1,
    }


def test_a_drop_that_cannot_be_met_tells_the_best_point():
    with pytest.raises(DropError, match=r"--max-drop 0.01 cannot be met on the selection rows: .* loses 0.0500") as at:
        fewest_float_nodes(lambda: ["a", "b"], qualities({"a": 0.1, "c": 0.05}), lambda kept: 0.9, (1.0, 0.9), 0.01)
    assert at.value.best.kept_float == ("a",)


def test_more_stays_in_float_until_the_other_rows_confirm_it():
    """One node is enough for the selection rows; the others want three, which doubling finds as four."""
    names = list("abcdef")
    asked = []

    def confirmed(kept):
        asked.append(len(kept))
        return 0.9 if len(kept) >= 3 else 0.7

    choice = fewest_float_nodes(lambda: names, lambda kept: 1.0 if kept else 0.5, confirmed, (1.0, 0.9), 0.01)
    assert (choice.kept_float, choice.confirmations, asked) == (("a", "b", "c", "d"), 3, [1, 2, 4])
    assert max(choice.drop_selected, choice.drop_confirmed) <= 0.01
    without = fewest_float_nodes(lambda: names, lambda kept: 1.0, confirmed, (1.0, 0.9), 0.01)
    assert (without.kept_float, without.confirmations) == (("a", "b", "c", "d"), 4)


def test_a_choice_that_the_other_rows_never_confirm_is_not_claimed():
    with pytest.raises(DropError, match=r"cannot be met on the rows that confirm it: .* 0.3000 on the others") as at:
        fewest_float_nodes(lambda: ["a"], lambda kept: 1.0, lambda kept: 0.7, (1.0, 1.0), 0.01)
    assert at.value.best.drop_confirmed == pytest.approx(0.3)
