"""Numbers and foreign texts as a reader sees them."""

import pytest

from hfcompress.measure.report import text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a\n\tb  c", "a b c"),
        ("x" * 30, "x" * 9 + "…"),
        ("\ud800\x07", "��"),
        ("a\u202eb\u2066", "ab"),
        (["é", 1], '["é", 1]'),
        (None, "null"),
        ("👨\u200d👩", "👨\u200d👩"),
    ],
)
def test_foreign_values_become_one_short_line(value, shown):
    assert text.clean(value, 10) == shown


def test_names_are_cut_in_the_middle():
    assert text.shorten("news about sport", 20) == "news about sport"
    assert text.shorten("news about sport in winter", 15) == "news ab…winter"
    assert len(text.shorten("x" * 99, 15)) == 15


@pytest.mark.parametrize("value", [None, True, "1", float("nan"), float("inf"), [1]])
def test_only_finite_numbers_are_numbers(value):
    assert text.number({"a": {"b": value}}, "a", "b") is None


def test_keys_are_followed_as_far_as_they_go():
    assert text.number({"a": {"b": 2}}, "a", "b") == 2.0
    assert text.number({"a": None}, "a", "b") is None
    assert text.pair({"a": [1, 2.5]}, "a") == (1.0, 2.5)
    assert text.pair({"a": [1, float("nan")]}, "a") is None
    assert text.pair({"a": [1]}, "a") is None


def test_metrics_are_shown_in_their_unit():
    assert text.of_metric("accuracy", 0.8374) == "83.7"
    assert text.of_metric("rougeL", 0.5) == "50.0"
    assert text.of_metric("spearman", -0.1234) == "−0.123"
    assert text.of_metric("pearson", None) == "not defined"
    assert text.change_of("f1_macro", -0.0161) == "−1.6"
    assert text.change_of("spearman", 0.01) == "+0.010"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (text.count(22713986), "22.7 M"),
        (text.count(1.1e9), "1.1 G"),
        (text.count(4608), "4.6 k"),
        (text.count(12), "12"),
        (text.megabytes(90867952), "90.9"),
        (text.megabytes(612e6), "612"),
        (text.megabytes(36000), "0.036"),
        (text.milliseconds(1091.4), "1,091"),
        (text.milliseconds(43.21), "43.2"),
        (text.milliseconds(3.317), "3.32"),
        (text.times(0.254), "× 0.25"),
        (text.times(0.0312), "× 0.031"),
        (text.duration(12.34), "12.3 s"),
        (text.duration(244.6), "4.1 min"),
        (text.duration(9000), "2.5 h"),
        (text.plain(2.5), "2.500"),
        (text.plain(12345.6), "12,346"),
    ],
)
def test_numbers_have_as_many_digits_as_say_something(shown, expected):
    assert shown == expected


def test_settings_are_named_in_words():
    timed = {"threads": 1, "batch_size": 32, "length": 128}
    assert text.setting(timed, "text-classification") == "batch 32 · 128 tokens · 1 thread"
    assert text.setting({**timed, "threads": 2, "length": 224}, "image-classification") == (
        "batch 32 · 224 pixels · 2 threads"
    )
    assert text.setting({}, "fill-mask") == "batch 1"
