"""The fingerprint of data: another one exactly when texts, labels, their names, their order or the split are others."""

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hfcompress.data import TaskData


def text_data(train=(("x", 0), ("y", 1)), held_out=(("z", 1),), names=("a", "b"), max_length=None):
    parts = [Dataset.from_list([{"text": text, "labels": label} for text, label in part]) for part in (train, held_out)]
    return TaskData(*parts, names, max_length)


@pytest.mark.parametrize(
    "other",
    [
        {"train": (("x", 0), ("Y", 1))},
        {"train": (("x", 1), ("y", 1))},
        {"train": (("y", 1), ("x", 0))},
        {"train": (("x", 0),), "held_out": (("y", 1), ("z", 1))},
        {"train": (("x", 0), ("y", 1), ("z", 1)), "held_out": (("w", 1),)},
        {"held_out": (("z", 0),)},
        {"names": ("b", "a")},
    ],
)
def test_the_fingerprint_changes_with_texts_labels_names_order_and_split(other):
    assert text_data().fingerprint != text_data(**other).fingerprint


def test_the_fingerprint_does_not_depend_on_how_texts_are_cut_or_on_the_overlap():
    assert text_data().fingerprint == text_data(max_length=8).fingerprint
    assert len(text_data().fingerprint) == 64


texts = st.lists(st.tuples(st.text(max_size=5), st.integers(0, 1)), min_size=1, max_size=4)


@settings(max_examples=25, deadline=None)
@given(texts, texts, texts, texts)
def test_fingerprints_are_equal_exactly_when_the_rows_are(train, held_out, other_train, other_held_out):
    one, other = text_data(train, held_out), text_data(other_train, other_held_out)
    assert (one.fingerprint == other.fingerprint) == ((train, held_out) == (other_train, other_held_out))
    assert one.fingerprint == text_data(list(train), list(held_out)).fingerprint
