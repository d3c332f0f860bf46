"""Many names in one line."""

from hfcompress.naming import brief_names, first_few


def test_names_are_told_in_brief():
    assert brief_names(["a.0.q", "b", "a.2.q", "a.1.k"]) == "a.{0,2}.q, b, a.1.k"
    assert brief_names(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


def test_of_many_texts_the_first_few_are_told():
    assert first_few([]) == ""
    assert first_few(["b", "a"]) == "b, a"
    assert first_few({"b", "a"}) == "a, b"
    assert first_few(["a", "b", "c"], 2) == "a, b and 1 more"
