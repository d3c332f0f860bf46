"""Which of the teacher's hidden states each of the student's is compared with."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfcompress import registry
from hfcompress.distillation.layer_maps import map_layers
from hfcompress.errors import RequestError
from hfcompress.training.objective import ModelPair, build_objective, parse_losses
from tests.tiny import tiny_config

MAPS = list(registry.methods("layer_map"))


@pytest.mark.parametrize(
    ("name", "student", "teacher", "expected"),
    [
        ("uniform", 3, 6, [(0, 0), (1, 2), (2, 4), (3, 6)]),
        ("uniform", 4, 12, [(0, 0), (1, 3), (2, 6), (3, 9), (4, 12)]),
        ("uniform", 2, 4, [(0, 0), (1, 2), (2, 4)]),
        ("uniform", 6, 6, [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6)]),
        ("uniform", 5, 12, [(0, 0), (1, 2), (2, 5), (3, 7), (4, 10), (5, 12)]),
        ("uniform", 4, 2, [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2)]),
        ("last", 3, 6, [(1, 4), (2, 5), (3, 6)]),
        ("last", 4, 12, [(1, 9), (2, 10), (3, 11), (4, 12)]),
        ("last", 2, 4, [(1, 3), (2, 4)]),
        ("last", 6, 6, [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6)]),
        ("last", 5, 12, [(1, 8), (2, 9), (3, 10), (4, 11), (5, 12)]),
        ("last", 4, 2, [(3, 1), (4, 2)]),
        ("skip", 3, 6, [(1, 2), (2, 4), (3, 6)]),
        ("skip", 4, 12, [(1, 3), (2, 6), (3, 9), (4, 12)]),
        ("skip", 2, 4, [(1, 2), (2, 4)]),
        ("skip", 6, 6, [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6)]),
        ("skip", 5, 12, [(1, 2), (2, 4), (3, 6), (4, 8), (5, 10)]),
        ("skip", 4, 2, [(1, 1), (2, 2)]),
    ],
)
def test_named_maps_pair_as_written_by_hand(name, student, teacher, expected):
    assert map_layers(name, student, teacher) == expected


@pytest.mark.parametrize("name", MAPS)
@settings(max_examples=50, deadline=None)
@given(student=st.integers(1, 48), teacher=st.integers(1, 48))
def test_every_pair_exists_and_order_is_kept(name, student, teacher):
    pairs = map_layers(name, student, teacher)
    ours, theirs = zip(*pairs, strict=True)
    assert all(0 <= number <= student for number in ours)
    assert all(0 <= number <= teacher for number in theirs)
    assert sorted(set(ours)) == list(ours)
    assert sorted(theirs) == list(theirs)


@pytest.mark.parametrize("name", ["uniform", "last"])
@settings(max_examples=25, deadline=None)
@given(student=st.integers(1, 48), teacher=st.integers(1, 48))
def test_the_last_layer_learns_from_the_last(name, student, teacher):
    assert map_layers(name, student, teacher)[-1] == (student, teacher)


@pytest.mark.parametrize(
    ("layer_map", "expected"),
    [
        ("1:2", [(1, 2)]),
        (" 1 : 2 ,3:6", [(1, 2), (3, 6)]),
        ("0:0,3:6", [(0, 0), (3, 6)]),
        ([(1, 2), (3, 6)], [(1, 2), (3, 6)]),
        ([[3, 1], [1, 5]], [(3, 1), (1, 5)]),
    ],
)
def test_explicit_pairs_are_taken_as_they_are(layer_map, expected):
    assert map_layers(layer_map, 3, 6) == expected


def test_layers_that_do_not_exist_are_all_named_with_the_allowed_range():
    with pytest.raises(RequestError) as error:
        map_layers("1:7,4:2,-1:0", 3, 6)
    assert str(error.value).split("\n") == [
        "layer_map: the teacher has no hidden state 7. Allowed: 0 (embeddings) to 6.",
        "layer_map: the student has no hidden state 4. Allowed: 0 (embeddings) to 3.",
        "layer_map: the student has no hidden state -1. Allowed: 0 (embeddings) to 3.",
    ]


@pytest.mark.parametrize(
    "garbage", ["1:2:3", "a:b", "1:", ":", "1:2,", "skip:2", [], [1, 2], [(1,)], [(1.5, 2)], ["12"], {1: 2}, 5, None]
)
def test_garbage_is_refused_with_an_example_and_the_names(garbage):
    with pytest.raises(RequestError, match=r"a name or pairs such as 1:2,3:6, got .* Names: last, skip, uniform\."):
        map_layers(garbage, 3, 6)


def test_a_mistyped_name_is_answered_with_the_nearest():
    with pytest.raises(RequestError, match="there is no layer map 'unifrom'. Did you mean 'uniform'?"):
        map_layers("unifrom", 3, 6)


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_a_loss_is_refused_when_built_for_models_without_the_layer(family):
    pair = ModelPair(tiny_config(family, 2), tiny_config("bert", 4), "2:5")
    with pytest.raises(RequestError, match="the teacher has no hidden state 5. Allowed: 0 .* to 4"):
        build_objective(parse_losses("hidden_mse"), pair)
