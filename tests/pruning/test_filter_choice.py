"""Which filters stay: hand-made groups and costs, and properties of any."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hfcompress.modeling.groups import Channels, Group
from hfcompress.pruning.filter_choice import Sizes, global_sizes, most_important, uniform_sizes
from hfcompress.pruning.filter_costs import Cost, Product, count_of


def group(name, units):
    return Group(name, "filters", units, (Channels(name),), (Channels(f"{name}_next"),))


def test_the_sizes_that_a_group_may_have():
    sizes = Sizes([group("a", 20), group("b", 6)], 8)
    assert sizes.largest == {"a": 20, "b": 6}
    assert sizes.smallest == {"a": 8, "b": 6}
    a, b = sizes.groups
    assert [sizes.below(a, units) for units in (20, 16, 8)] == [16, 8, None]
    assert sizes.below(b, 6) is None
    assert sizes.at(Fraction(17, 20)) == {"a": 16, "b": 6}
    assert sizes.at(Fraction(1)) == {"a": 20, "b": 6}
    assert sizes.at(Fraction(1, 20)) == {"a": 8, "b": 6}


def test_uniform_keeps_the_largest_share_that_fits():
    groups = [group("a", 10), group("b", 5)]
    assert uniform_sizes(Sizes(groups, 1), count_of(groups), 9) == {"a": 6, "b": 3}
    assert uniform_sizes(Sizes(groups, 1), count_of(groups), 15) == {"a": 10, "b": 5}
    assert uniform_sizes(Sizes(groups, 1), count_of(groups), 2) == {"a": 1, "b": 1}


def test_global_takes_what_loses_least_for_what_it_saves():
    groups = [group("a", 4), group("b", 4)]
    cost = Cost([Product(1, ("a",)), Product(10, ("b",))])
    scores = {"a": torch.tensor([1.0, 2.0, 3.0, 4.0]), "b": torch.tensor([5.0, 6.0, 70.0, 80.0])}
    # Of b the first costs 5 for 10, the second 6 for 10; of a the first 1 for 1.
    assert global_sizes(Sizes(groups, 1), cost, 24, scores, cost) == {"a": 4, "b": 2}
    assert global_sizes(Sizes(groups, 1), cost, 23, scores, cost) == {"a": 3, "b": 2}
    # By units alone those of a go first; they save too little, so that b follows.
    assert global_sizes(Sizes(groups, 1), cost, 24, scores, count_of(groups)) == {"a": 1, "b": 2}


def test_global_counts_anew_what_a_filter_saves():
    groups = [group("a", 2), group("b", 3)]
    cost = Cost([Product(1, ("a", "b")), Product(2, ("b",))])
    scores = {"a": torch.tensor([3.0, 9.0]), "b": torch.tensor([4.1, 4.2, 9.0])}
    # At first a filter of a saves 3 (1 each), one of b 4 (1.025); once that of a is gone, one of b saves 3.
    assert global_sizes(Sizes(groups, 1), cost, 9, scores, cost) == {"a": 1, "b": 3}
    assert global_sizes(Sizes(groups, 1), cost, 8, scores, cost) == {"a": 1, "b": 2}


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=5),
    st.integers(1, 9),
    st.floats(0, 1),
    st.integers(0, 2**32 - 1),
)
def test_any_budget_is_kept_and_any_size_allowed(units, multiple, share, seed):
    groups = [group(str(number), count) for number, count in enumerate(units)]
    names = [each.name for each in groups]
    cost = Cost([Product(3, (one, two)) for one, two in zip(names, names[1:], strict=False)] + [Product(2, ("0",))])
    sizes = Sizes(groups, multiple)
    budget = cost.of(sizes.smallest) + share * (cost.of(sizes.largest) - cost.of(sizes.smallest))
    generator = torch.Generator().manual_seed(seed)
    scores = {each.name: torch.rand(each.units, generator=generator) for each in groups}
    for chosen in (
        uniform_sizes(sizes, cost, budget),
        global_sizes(sizes, cost, budget, scores, cost),
        global_sizes(sizes, cost, budget, scores, count_of(groups)),
    ):
        assert cost.of(chosen) <= budget
        for each in groups:
            allowed = {each.units, *range(multiple, each.units, multiple)}
            assert chosen[each.name] in allowed


@pytest.mark.parametrize(("count", "kept"), [(1, [3]), (2, [0, 3]), (3, [0, 1, 3]), (4, [0, 1, 2, 3])])
def test_the_most_important_stay_in_their_order(count, kept):
    assert most_important(torch.tensor([2.0, 1.0, 1.0, 5.0]), count) == kept
