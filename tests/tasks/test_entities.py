"""Entities: every way to tag them is read alike, and scores are those computed by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfcompress.tasks.entities import entities, marks_entities, score_tags


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("B-PER I-PER O B-LOC", [("PER", 0, 1), ("LOC", 3, 3)]),  # IOB2
        ("I-PER I-PER B-PER O I-LOC", [("PER", 0, 1), ("PER", 2, 2), ("LOC", 4, 4)]),  # IOB1
        ("I-PER E-PER O E-LOC", [("PER", 0, 1), ("LOC", 3, 3)]),  # IOE2
        ("I-PER E-PER I-PER I-PER O I-LOC", [("PER", 0, 1), ("PER", 2, 3), ("LOC", 5, 5)]),  # IOE1
        ("B-PER I-PER E-PER S-PER S-PER", [("PER", 0, 2), ("PER", 3, 3), ("PER", 4, 4)]),  # IOBES
        ("B-PER I-PER L-PER U-PER U-LOC", [("PER", 0, 2), ("PER", 3, 3), ("LOC", 4, 4)]),  # BILOU
        ("B-PER B-PER", [("PER", 0, 0), ("PER", 1, 1)]),
        ("B-PER I-LOC I-LOC", [("PER", 0, 0), ("LOC", 1, 2)]),
        ("B-A-B I-A-B", [("A-B", 0, 1)]),
        ("O O", []),
    ],
)
def test_entities_are_read_in_every_scheme(tags, found):
    assert entities(tags.split()) == found


spans = st.lists(st.tuples(st.sampled_from(["PER", "LOC"]), st.integers(1, 4), st.integers(0, 2)), max_size=6)


def tag(kind, length, scheme):
    if scheme == "IOB2":
        return [f"B-{kind}", *[f"I-{kind}"] * (length - 1)]
    if scheme == "IOE2":
        return [*[f"I-{kind}"] * (length - 1), f"E-{kind}"]
    first, last, alone = {"IOBES": "BES", "BILOU": "BLU"}[scheme]
    return [f"{alone}-{kind}"] if length == 1 else [f"{first}-{kind}", *[f"I-{kind}"] * (length - 2), f"{last}-{kind}"]


@pytest.mark.parametrize("scheme", ["IOB2", "IOE2", "IOBES", "BILOU"])
@given(spans)
def test_what_is_tagged_is_found_again(scheme, spans):
    tags, wanted = [], []
    for kind, length, gap in spans:
        wanted.append((kind, len(tags), len(tags) + length - 1))
        tags += tag(kind, length, scheme) + ["O"] * gap
    assert entities(tags) == wanted


@pytest.mark.parametrize(
    ("tags", "marks"), [(["O", "B-PER"], True), (["O"], True), (["NOUN", "O"], False), (["B"], False), (["X-Y"], False)]
)
def test_plain_tags_mark_no_entities(tags, marks):
    assert marks_entities(tags) is marks


def test_scores_by_hand():
    references = np.array(["O O O B-MISC I-MISC I-MISC O", "B-PER I-PER O"])
    answers = np.array(["O O B-MISC I-MISC I-MISC I-MISC O", "B-PER I-PER O"])
    # One of two entities right in both directions; the tags of words 2 and 3 are wrong.
    assert score_tags(answers, references) == {"f1": 0.5, "precision": 0.5, "recall": 0.5, "accuracy": 0.8}
    answers = np.array(["B-MISC O O B-MISC I-MISC I-MISC O", "O O O"])
    assert score_tags(answers, references) == pytest.approx(
        {"f1": 0.5, "precision": 0.5, "recall": 0.5, "accuracy": 0.7}
    )
    answers = np.array(["O B-PER O B-MISC I-MISC I-MISC O", "B-PER I-PER O"])
    assert score_tags(answers, references) == pytest.approx(
        {"f1": 0.8, "precision": 2 / 3, "recall": 1, "accuracy": 0.9}
    )


def test_nothing_to_find_scores_nothing():
    rows = np.array(["O O", "O"])
    assert score_tags(rows, rows) == {"f1": 0.0, "precision": 0.0, "recall": 0.0, "accuracy": 1.0}


def test_plain_tags_have_an_accuracy_alone():
    assert score_tags(np.array(["NOUN VERB", "ADV"]), np.array(["NOUN NOUN", "ADV"])) == {"accuracy": 2 / 3}
