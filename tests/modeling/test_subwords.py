"""Subwords: what a piece is made of, which pieces it needs, and which read any word."""

import pytest

from hfcompress.modeling.subwords import Subwords, pair_of

BPE = {
    "type": "BPE",
    "vocab": {
        piece: number for number, piece in enumerate(["l", "o", "w", "e", "r", "lo", "low", "er", "lower", "ow"])
    },
    "merges": ["l o", ["lo", "w"], "e r", "low er", "o w"],
}
PIECES = ["[UNK]", "a", "##a", "b", "##b", "abc", "##ab", "[x]"]
WORDPIECE = {
    "type": "WordPiece",
    "unk_token": "[UNK]",
    "continuing_subword_prefix": "##",
    "vocab": {piece: number for number, piece in enumerate(PIECES)},
}
UNIGRAM = {
    "type": "Unigram",
    "unk_id": 0,
    "vocab": [["<unk>", 0.0], ["▁", -1.0], ["a", -9.5], ["ab", -2.0], ["éa", -3.0]],
}


@pytest.mark.parametrize(
    ("marks", "piece", "symbols"),
    [
        ({}, "ing", ["i", "n", "g"]),
        ({"prefix": "##"}, "ing", ["i", "##n", "##g"]),
        ({"prefix": "##"}, "##ing", ["##i", "##n", "##g"]),
        ({"suffix": "</w>"}, "ing</w>", ["i", "n", "g</w>"]),
        ({"suffix": "</w>"}, "</w>", []),
    ],
)
def test_symbols_keep_the_marks_of_their_place(marks, piece, symbols):
    assert Subwords("BPE", {}, {}, **marks).symbols(piece) == symbols


def test_bpe_needs_what_it_merges_on_the_way():
    pieces = Subwords.of(BPE)
    assert pieces.needed("lower") == {"l", "o", "w", "e", "r", "lo", "low", "er", "lower"}  # never `ow`
    assert pieces.needed("ow") == {"o", "w", "ow"}
    assert pieces.needed("l") == {"l"}


def test_a_piece_that_no_merge_reaches_needs_nothing():
    vocabulary = {**BPE["vocab"], "wer": 10}
    assert Subwords.of({**BPE, "vocab": vocabulary}).needed("wer") == {"wer"}


def test_merges_of_pieces_with_a_prefix_write_it_once():
    model = {"type": "BPE", "continuing_subword_prefix": "##", "merges": ["a ##b", "##b ##c"]}
    pieces = Subwords.of({**model, "vocab": {"a": 0, "##b": 1, "ab": 2, "##c": 3, "##bc": 4}})
    assert pieces.merged("##b", "##c") == "##bc"
    assert pieces.needed("ab") == {"a", "##b", "ab"}
    assert pieces.needed("##bc") == {"##b", "##c", "##bc"}


def test_other_kinds_need_the_piece_alone():
    assert Subwords.of(WORDPIECE).needed("abc") == {"abc"}
    assert Subwords.of(UNIGRAM).needed("ab") == {"ab"}


def test_fallback_is_single_characters_and_what_has_a_character_of_no_other_piece():
    # `abc` has no `##c` and `[x]` nothing at all; `##ab` is made of `##a` and `##b`.
    assert Subwords.of(WORDPIECE).fallback() == {"a", "##a", "b", "##b", "abc", "[x]", "[UNK]"}
    assert Subwords.of(UNIGRAM).fallback() == {"▁", "a", "<unk>", "ab", "éa"}
    assert Subwords.of(BPE).fallback() == set("lower")
    assert Subwords.of({"type": "WordLevel", "vocab": {"a": 0, "[UNK]": 1}, "unk_token": "[UNK]"}).fallback() == set()


def test_bytes_are_fallback_even_where_their_letters_are_pieces():
    vocabulary = {piece: number for number, piece in enumerate(["<", "0", "x", "A", ">", "<0x0A>"])}
    assert "<0x0A>" in Subwords.of({"type": "BPE", "merges": [], "vocab": vocabulary}).fallback()


def test_what_must_always_stay():
    assert Subwords.of(WORDPIECE).always == {"[UNK]"}
    assert Subwords.of(UNIGRAM).always == {"<unk>", "a"}  # the least likely piece sets the price of the unknown
    assert Subwords.of(BPE).always == frozenset()


def test_pieces_inside_a_word():
    assert Subwords.of(WORDPIECE).inside("xab") == {"a", "##a", "b", "##b", "##ab"}
    assert Subwords.of(BPE).inside("low") == {"l", "o", "w", "lo", "low", "ow"}


def test_merges_are_read_in_both_forms():
    assert pair_of("a b") == pair_of(["a", "b"]) == ("a", "b")
