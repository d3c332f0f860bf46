"""Labels that are lists or numbers: in the model's order, exact, and every fault named."""

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from hfcompress.errors import DataError
from hfcompress.label_kinds import encode_label_lists, encode_numbers, refuse_written_lists

FEELINGS = [["joy", "calm"], [], ["fear"]]


def rows(labels, feature=None):
    made = Dataset.from_dict({"text": ["x"] * len(labels), "labels": labels})
    return made.cast(Features(text=Value("string"), labels=feature)) if feature else made


def encode(labels, names=None, model=None, validation=None, feature=None):
    held_out = labels if validation is None else validation
    parts = {"training": rows(labels, feature), "validation": rows(held_out, feature)}
    encoded, order = encode_label_lists(parts, names, model)
    return list(encoded["training"]["labels"]), list(encoded["validation"]["labels"]), order


def refusal(*args, **kwargs):
    with pytest.raises(DataError) as error:
        encode(*args, **kwargs)
    return str(error.value)


def test_lists_of_names_become_a_0_or_1_each_in_alphabetical_order():
    vectors = [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    assert encode(FEELINGS) == (vectors, vectors, ("calm", "fear", "joy"))


def test_a_label_said_twice_counts_once():
    assert encode([["a", "a"], ["b"]])[0] == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("labels", "names", "model", "vectors", "order"),
    [
        ([[0, 2], [1]], None, None, [[1, 0, 1], [0, 1, 0]], ("0", "1", "2")),
        ([[3], []], None, None, [[0, 0, 0, 1], [0, 0, 0, 0]], ("0", "1", "2", "3")),
        ([[0, 2], [1]], ["x", "y", "z"], None, [[1, 0, 1], [0, 1, 0]], ("x", "y", "z")),
        ([[0, 2], [1]], ["x", "y", "z"], ("Z", "X", "Y"), [[1, 1, 0], [0, 0, 1]], ("Z", "X", "Y")),
        ([[0], [2]], None, ("x", "y", "z"), [[1, 0, 0], [0, 0, 1]], ("x", "y", "z")),
        (
            [[0], [2]],
            None,
            ("LABEL_0", "LABEL_1", "LABEL_2"),
            [[1, 0, 0], [0, 0, 1]],
            ("LABEL_0", "LABEL_1", "LABEL_2"),
        ),
        ([[1], [3, 2]], None, ("3", "2", "1"), [[0, 0, 1], [1, 1, 0]], ("3", "2", "1")),
        ([[0], [3, 2]], None, ("1", "2", "3", "4"), [[1, 0, 0, 0], [0, 0, 1, 1]], ("1", "2", "3", "4")),
        ([["b"], []], None, ("B", "A"), [[1, 0], [0, 0]], ("B", "A")),
        ([["b"], []], ["a", "b"], None, [[0, 1], [0, 0]], ("a", "b")),
        ([["b"], ["a"]], None, ("LABEL_0", "LABEL_1"), [[0, 1], [1, 0]], ("a", "b")),
        ([["b"], ["B"]], None, None, [[0, 1], [1, 0]], ("B", "b")),
    ],
)
def test_a_models_order_and_given_names_are_followed(labels, names, model, vectors, order):
    assert encode(labels, names, model) == (vectors, vectors, order)


def test_class_labels_are_numbers_of_the_datas_own_names():
    feature = List(ClassLabel(names=["x", "y", "z"]))
    assert encode([[0, 2]], feature=feature)[::2] == ([[1, 0, 1]], ("x", "y", "z"))
    assert encode([[0, 2]], model=("z", "y", "x"), feature=feature)[::2] == ([[1, 0, 1]], ("z", "y", "x"))
    assert encode([[0]], model=("z", "y", "x"), feature=feature)[0] == [[0, 0, 1]]


@pytest.mark.parametrize(
    ("labels", "names"),
    [([[0.0, 1.0], [1.0, 1.0]], ("0", "1")), ([[0, 1, 1], [0, 0, 0]], ("0", "1", "2"))],
)
def test_a_0_or_1_for_each_label_stays_as_it_is(labels, names):
    assert encode(labels)[::2] == (labels, names)
    letters = tuple("abc"[: len(names)])
    assert encode(labels, model=letters)[::2] == (labels, letters)
    assert encode(labels, letters, letters[::-1])[::2] == ([row[::-1] for row in labels], letters[::-1])


def test_whole_numbers_that_may_be_labels_are_labels():
    assert encode([[0, 1], [1, 0]])[0] == [[1, 1], [1, 1]]


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        (
            {"labels": ["a", "b"]},
            [
                "labels: 2 training rows have labels that are not lists (the first is row 0, from 0: 'a'). Several "
                "labels at once are written as a list a row, empty for none; a csv cannot hold lists, jsonl can.",
                "labels: 2 validation rows have labels that are not lists (the first is row 0, from 0: 'a'). Several"
                " labels at once are written as a list a row, empty for none; a csv cannot hold lists, jsonl can.",
            ],
        ),
        (
            {"labels": [["a"], None], "validation": [["a"]]},
            ["labels: 1 training rows have labels that are not lists (the first is row 1, from 0: None)."],
        ),
        (
            {"labels": ["['a','b']", "[]"], "validation": [["a"]]},
            ["(the first is row 0, from 0: \"['a','b']\"). Several labels at once are written as a list"],
        ),
        ({"labels": [[], []]}, ["labels: no training row has any label: there is nothing to learn."]),
        (
            {"labels": [["joy"], ["calm"]], "validation": [["jox", "joy"]]},
            ["labels: validation rows have unknown labels: jox. Did you mean 'joy'? Allowed: calm, joy."],
        ),
        (
            {"labels": [["joy"], ["fly"]], "model": ("joy", "calm")},
            [
                "labels: training rows have unknown labels: fly. Allowed: joy, calm.",
                "labels: validation rows have unknown labels: fly. Allowed: joy, calm.",
            ],
        ),
        ({"labels": [[0], [2]], "names": ["a", "b"], "validation": [[0]]}, ["unknown labels: 2. Allowed: a, b."]),
        ({"labels": [[0], [-1]], "names": ["a", "b"], "validation": [[0]]}, ["unknown labels: -1. Allowed: a, b."]),
        ({"labels": [[0]], "names": ["a", "a"]}, ["label_names: a name stands twice: a, a."]),
        (
            {"labels": [[0]], "names": ["a", "b"], "model": ("a", "c")},
            ["labels: the data's labels (a, b) are not the model's (a, c). If they mean the same, pass --label-names"],
        ),
        (
            {"labels": [["a"], ["b"]], "model": ("LABEL_0", "LABEL_1", "LABEL_2")},
            ["the data has 2 labels (a, b), the model was trained with 3 (LABEL_0, LABEL_1, LABEL_2). Pass all"],
        ),
        (
            {"labels": [[0.0, 1.0]], "model": ("a", "b", "c")},
            ["labels: each row has a 0 or 1 for each of 2 labels, there are 3 names (a, b, c)."],
        ),
        ({"labels": [[0.5, 1.0]], "model": ("a", "b"), "validation": [["a"]]}, ["unknown labels: 0.5, 1.0. Allowed"]),
    ],
)
def test_lists_that_cannot_be_learned_are_refused(kwargs, says):
    lines = refusal(**kwargs).splitlines()
    assert len(lines) == len(says)
    assert all(words in line for words, line in zip(says, lines, strict=True))


def test_numbers_become_floating_point_numbers():
    parts = {"training": rows([0.5, 2.0]), "validation": rows([1, 3]), "more": rows(["1.5", "-2"])}
    encoded = encode_numbers(parts)
    assert {part: list(found["labels"]) for part, found in encoded.items()} == {
        "training": [0.5, 2.0],
        "validation": [1.0, 3.0],
        "more": [1.5, -2.0],
    }
    assert all(found.features["labels"] == Value("float64") for found in encoded.values())


def test_what_is_no_number_is_counted_in_every_part():
    with pytest.raises(DataError) as error:
        encode_numbers({"training": rows(["1", "x", ""]), "validation": rows([1.0, float("inf"), None])})
    assert str(error.value).splitlines() == [
        "labels: 2 training rows have a label that is no number (the first is row 1, from 0: 'x'). A regression takes "
        "one number a row.",
        "labels: 2 validation rows have a label that is no number (the first is row 1, from 0: inf). A regression takes"
        " one number a row.",
    ]


def test_lists_written_in_texts_are_refused_and_other_texts_are_not():
    with pytest.raises(DataError) as error:
        refuse_written_lists({"training": rows(["['a','b']", "[]"]), "validation": rows(["a", "[b]"])})
    assert str(error.value) == (
        "labels: the labels of the training rows are texts that look like lists (the first is \"['a','b']\"). Several"
        " labels at once are written as a list a row, empty for none; a csv cannot hold lists, jsonl can."
    )
    refuse_written_lists({"training": rows(["a", "[b]"]), "validation": rows([1, 2])})
