"""Labels: as numbers in the model's order, never silently another class, and every fault named."""

import datasets
import pytest
from datasets import ClassLabel, Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hfcompress.errors import DataError
from hfcompress.labels import encode_labels, match_labels

STARS = [1, 2, 3, 4, 5]


def rows(labels, feature=None):
    made = Dataset.from_dict({"text": [f"text {i}" for i in range(len(labels))], "labels": labels})
    return made.cast_column("labels", feature) if feature else made


def encode(labels, model=None, names=None, validation=None, feature=None):
    held_out = labels if validation is None else validation
    train, held_out, order = encode_labels(rows(labels, feature), rows(held_out, feature), names, model)
    return list(train["labels"]), list(held_out["labels"]), order


def refusal(*args, **kwargs):
    with pytest.raises(DataError) as error:
        encode(*args, **kwargs)
    return str(error.value)


@pytest.mark.parametrize(
    ("labels", "numbers", "names"),
    [
        (["pos", "neg", "pos"], [1, 0, 1], ("neg", "pos")),
        (["10", "9", "10"], [0, 1, 0], ("10", "9")),
        ([0, 1, 0], [0, 1, 0], ("0", "1")),
        ([9, 10, 2], [1, 2, 0], ("2", "9", "10")),
        ([-1, 0, 1], [0, 1, 2], ("-1", "0", "1")),
        ([0.0, 1.0, 0.0], [0, 1, 0], ("0", "1")),
        ([True, False, True], [1, 0, 1], ("0", "1")),
        (STARS, [0, 1, 2, 3, 4], ("1", "2", "3", "4", "5")),
        (["None", "NA", "nan"], [1, 0, 2], ("NA", "None", "nan")),
    ],
)
def test_without_a_trained_model_labels_are_numbered_in_their_own_order(labels, numbers, names):
    assert encode(labels) == (numbers, numbers, names)


def test_class_labels_keep_their_numbers_and_names():
    assert encode([2, 0, 1], feature=ClassLabel(names=["z", "m", "a"])) == ([2, 0, 1], [2, 0, 1], ("z", "m", "a"))


@pytest.mark.parametrize(
    ("labels", "feature"),
    [(["neg", "pos", "neg"], None), ([0, 1, 0], ClassLabel(names=["neg", "pos"]))],
    ids=["strings", "class labels"],
)
@pytest.mark.parametrize(
    ("model", "numbers", "names"),
    [
        (("neg", "pos"), [0, 1, 0], ("neg", "pos")),
        (("pos", "neg"), [1, 0, 1], ("pos", "neg")),
        (("POS", "Neg"), [1, 0, 1], ("pos", "neg")),
        (("LABEL_0", "LABEL_1"), [0, 1, 0], ("neg", "pos")),
    ],
)
def test_a_trained_models_order_is_followed(labels, feature, model, numbers, names):
    assert encode(labels, model, feature=feature) == (numbers, numbers, names)


@pytest.mark.parametrize(
    ("labels", "model", "numbers"),
    [
        ([0, 1, 0], ("negative", "positive"), [0, 1, 0]),
        ([0, 1, 0], ("LABEL_0", "LABEL_1"), [0, 1, 0]),
        ([0, 2, 0], ("a", "b", "c"), [0, 2, 0]),
        (STARS, ("1", "2", "3", "4", "5"), [0, 1, 2, 3, 4]),
        ([0, 1, 2, 3, 4], ("1", "2", "3", "4", "5"), [0, 1, 2, 3, 4]),
        ([9, 10, 2], ("10", "2", "9"), [2, 0, 1]),
        ([False, True], ("no", "yes"), [0, 1]),
    ],
)
def test_numbers_are_a_trained_models_names_where_they_all_are_else_its_positions(labels, model, numbers):
    assert encode(labels, model) == (numbers, numbers, model)


def test_stars_are_not_positions_of_a_model_with_unnamed_labels():
    said = refusal(STARS, tuple(f"LABEL_{i}" for i in range(5)))
    assert "training rows have labels out of range: '5' (1 rows)." in said
    assert "validation rows have labels out of range: '5' (1 rows)." in said


def test_a_number_out_of_range_is_not_taken_for_the_name_that_reads_the_same():
    said = refusal([0, 1, 2, 3, 4, 5], ("1", "2", "3", "4", "5"))
    assert "'5' (1 rows)" in said
    assert "'4'" not in said


@pytest.mark.parametrize(
    ("labels", "names", "model", "numbers", "order"),
    [
        ([0, 1], ["bad", "good"], None, [0, 1], ("bad", "good")),
        ([0, 1], ["bad", "good"], ("GOOD", "BAD"), [1, 0], ("good", "bad")),
        (["x", "y"], ["y", "x"], None, [1, 0], ("y", "x")),
        (STARS, ["1", "2", "3", "4", "5"], None, [0, 1, 2, 3, 4], ("1", "2", "3", "4", "5")),
        ([0, 1], ["a", "b", "c"], None, [0, 1], ("a", "b", "c")),
    ],
)
def test_names_can_be_given(labels, names, model, numbers, order):
    assert encode(labels, model, names) == (numbers, numbers, order)


def test_given_names_replace_those_of_class_labels():
    feature = ClassLabel(names=["0", "1"])
    assert encode([0, 1], ("good", "bad"), ["bad", "good"], feature=feature)[0] == [1, 0]


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"labels": ["a", "a"]}, "all 2 training rows have the label 'a': there is nothing to learn."),
        ({"labels": [0, 1], "names": ["b", "b"]}, "label_names: a name stands twice: b, b."),
        ({"labels": [0, 1], "names": ["b"]}, "out of range: '1' (1 rows). Allowed: b."),
        ({"labels": ["a", "b"], "names": ["a", "c"]}, "out of range: 'b' (1 rows). Allowed: a, c."),
        (
            {"labels": [0, 2, -1], "model": ("no", "yes")},
            "out of range: '2' (1 rows), '-1' (1 rows). Allowed: no, yes.",
        ),
        ({"labels": ["a", "b"], "validation": ["a", "c"]}, "validation rows have labels out of range: 'c' (1 rows)."),
        ({"labels": [0, 1], "validation": [0, 0.5]}, "validation rows have labels out of range: '0.5' (1 rows)."),
        ({"labels": [0.5, 1.0]}, "classification takes one class a row, got 0.5."),
        ({"labels": [float("inf"), 1.0]}, "classification takes one class a row, got inf."),
        ({"labels": [[0], [1]]}, "classification takes one class a row, got [0]."),
        ({"labels": [{"a": 1}, {"a": 2}]}, "classification takes one class a row, got {'a': 1}."),
        ({"labels": ["a", None, None]}, "2 training rows have no label (the first is row 1, from 0)."),
        ({"labels": ["a", ""]}, "1 training rows have no label (the first is row 1, from 0)."),
        ({"labels": [1.0, float("nan")]}, "1 training rows have no label (the first is row 1, from 0)."),
        ({"labels": [None, 1]}, "1 training rows have no label (the first is row 0, from 0)."),
        ({"labels": ["0", "1", ""], "model": ("no", "yes")}, "1 training rows have no label (the first is row 2"),
        ({"labels": ["a", "b"], "model": ("a", "c")}, "the data's labels (a, b) are not the model's (a, c)."),
        (
            {"labels": ["a", "b"], "model": ("a", "b", "c")},
            "has 2 labels (a, b), the model was trained with 3 (a, b, c).",
        ),
        (
            {"labels": ["a", "b", "A"], "model": ("a", "b")},
            "has 3 labels (A, a, b), the model was trained with 2 (a, b).",
        ),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(kwargs, says):
    assert says in refusal(**kwargs)


def test_a_class_label_of_minus_one_is_out_of_range():
    assert "'-1' (2 rows). Allowed: no, yes." in refusal([0, 1, -1, -1], feature=ClassLabel(names=["no", "yes"]))


def test_a_label_unseen_in_training_is_refused():
    feature = ClassLabel(names=["a", "b", "c"])
    said = refusal([0, 1], validation=[0, 2], feature=feature)
    assert said.startswith("labels: validation has labels unseen in training: c.")


def test_missing_labels_of_both_parts_are_said_at_once():
    said = refusal(["a", None], validation=["", "b"]).splitlines()
    assert [line.split(" (")[0] for line in said] == [
        "labels: 1 training rows have no label",
        "labels: 1 validation rows have no label",
    ]


def test_many_names_are_cut_short_in_messages():
    said = refusal([f"c{i:02}" for i in range(20)], ("a", "b"))
    assert "has 20 labels (c00, c01, c02, c03, c04, c05, c06, c07 …)" in said


names = st.lists(st.text("abcXYZ é", min_size=1, max_size=5), min_size=2, max_size=6, unique_by=str.casefold)


@settings(max_examples=30, deadline=None)
@given(names, st.randoms(use_true_random=False))
def test_matching_finds_every_name_whatever_the_order_and_case(ours, random):
    theirs = [name.upper() for name in ours]
    random.shuffle(theirs)
    positions = match_labels(ours, theirs)
    assert [theirs[position] for position in positions] == [name.upper() for name in ours]


@settings(max_examples=30, deadline=None)
@given(names, st.data())
def test_every_row_keeps_its_own_label_whatever_the_models_order(ours, data):
    labels = [*ours, *data.draw(st.lists(st.sampled_from(ours), max_size=8))]
    model = tuple(data.draw(st.permutations(ours)))
    numbers, _, order = encode(labels, model)
    assert [order[number] for number in numbers] == labels
    assert order == model


@pytest.mark.parametrize(
    ("ours", "theirs"), [(["a", "b"], ["a", "c"]), (["a", "A"], ["a", "b"]), (["a", "b"], ["a"]), (["a"], ["a", "A"])]
)
def test_other_names_do_not_match(ours, theirs):
    assert match_labels(ours, theirs) is None


def test_texts_are_untouched():
    train, _, _ = encode_labels(rows(["b", "a"]), rows(["a"]), None, None)
    assert list(train["text"]) == ["text 0", "text 1"]
    assert train.features["labels"] == datasets.Value("int64")
