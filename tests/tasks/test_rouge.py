"""ROUGE-L against values computed by hand."""

import pytest

from hfcompress.tasks.rouge import common_subsequence, rouge_l


@pytest.mark.parametrize(
    ("one", "other", "length"),
    [("", "", 0), ("abc", "", 0), ("abc", "abc", 3), ("abcbdab", "bdcaba", 4), ("aaa", "aa", 2), ("xyz", "abc", 0)],
)
def test_the_longest_common_subsequence(one, other, length):
    assert common_subsequence(list(one), list(other)) == common_subsequence(list(other), list(one)) == length


@pytest.mark.parametrize(
    ("written", "wanted", "score"),
    [
        ("the film is warm", "the film is warm", 1.0),
        ("The FILM, is: warm!", "the film is warm", 1.0),
        ("police kill the gunman", "police killed the gunman", 3 / 4),
        ("the gunman kill police", "police killed the gunman", 2 / 4),  # Lin 2004: the order counts
        ("the", "the film is warm", 2 / 5),  # precision 1, recall 1/4
        ("Füße schön", "füße", 2 / 3),
        ("", "the film", 0.0),
        ("the film", "", 0.0),
        ("a", "b", 0.0),
    ],
)
def test_f1_of_the_longest_common_subsequence(written, wanted, score):
    assert rouge_l(written, wanted) == pytest.approx(score)
