"""Spans: the tokens of an answer, the best span of all, and SQuAD's scores, by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfcompress.tasks.spans import LONGEST_ANSWER, best_span, normalize, score_answer, token_span

NO = (-1, -1)
# [CLS] who [SEP] the film is fine [SEP], the context from its character 10 on
OFFSETS = [NO, NO, NO, (10, 13), (14, 18), (19, 21), (22, 26), NO]


@pytest.mark.parametrize(
    ("begin", "end", "span"),
    [
        (14, 18, (4, 4)),
        (10, 26, (3, 6)),
        (15, 17, (4, 4)),
        (13, 18, (3, 4)),
        (9, 13, None),
        (22, 27, None),
        (0, 3, None),
        (30, 33, None),
    ],
)
def test_an_answers_tokens_are_those_that_cover_it(begin, end, span):
    assert token_span(OFFSETS, begin, end) == span


def test_a_feature_without_context_holds_no_answer():
    assert token_span([NO, NO], 0, 1) is None
    assert best_span(np.zeros(2), np.zeros(2), np.array([NO, NO])) is None


@given(st.integers(0, 9999))
def test_the_best_span_is_the_best_of_all(seed):
    random = np.random.default_rng(seed)
    start, end = random.normal(size=(2, len(OFFSETS)))
    pairs = [(i, j) for i, j in itertools.product(range(3, 7), repeat=2) if i <= j]
    first, last = max(pairs, key=lambda pair: start[pair[0]] + end[pair[1]])
    score, begin, stop = best_span(start, end, np.array(OFFSETS))
    assert score == pytest.approx(start[first] + end[last])
    assert (begin, stop) == (OFFSETS[first][0], OFFSETS[last][1])


def test_answers_of_more_than_thirty_tokens_are_not_given():
    offsets = np.array([(i, i + 1) for i in range(60)])
    start, end = np.zeros((2, 60))
    start[0], end[LONGEST_ANSWER - 1] = 5, 5
    assert best_span(start, end, offsets) == (10.0, 0, 30)
    end[LONGEST_ANSWER] = 6
    assert best_span(start, end, offsets) == (10.0, 0, 30)


@pytest.mark.parametrize(
    ("text", "same"),
    [("The  Film, a plot!", "film plot"), ("an A the", ""), ("U.S.", "us"), ("theatre", "theatre"), ("«Ça»", "«ça»")],
)
def test_answers_are_compared_without_case_articles_and_punctuation(text, same):
    assert normalize(text) == same


@pytest.mark.parametrize(
    ("answer", "wanted", "scores"),
    [
        ("the film", ("Film.",), (1, 1)),
        ("a fine film", ("film",), (0, 2 / 3)),  # precision 1/2, recall 1
        ("film", ("plot", "fine film"), (0, 2 / 3)),
        ("film film", ("film plot",), (0, 1 / 2)),  # one word in common, not two
        ("plot", ("film",), (0, 0)),
        ("", (), (1, 1)),
        ("film", (), (0, 0)),
        ("", ("film",), (0, 0)),
        ("the", (), (1, 1)),
    ],
)
def test_scores_by_hand(answer, wanted, scores):
    assert score_answer(answer, wanted) == pytest.approx(scores)
