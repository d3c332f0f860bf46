"""Words: what of a text may be replaced, what of a vocabulary may stand there, and the text put together again."""

import pytest

from hfcompress.distillation.words import Vocabulary, Word, encode_texts, match_case, whole_words
from hfcompress.errors import ModelError
from tests.distillation.vocabularies import byte_level, unigram, wordpiece

WORDS = [
    "film",
    "a",
    "the",
    "movie",
    "great",
    "un",
    "##fun",
    "##ny",
    "don",
    "t",
    "'",
    ".",
    ",",
    "-",
    "[unused1]",
    "3",
    "s",
]
TOKENIZERS = {"wordpiece": wordpiece(WORDS), "byte-level": byte_level(WORDS[:5]), "unigram": unigram(WORDS[:5])}
each_kind = pytest.mark.parametrize("kind", TOKENIZERS)


def found(text, tokenizer):
    (encoded,) = encode_texts([text], tokenizer)
    assert all(text[word.start : word.end] == word.text for word in encoded.words)
    return encoded


@each_kind
def test_words_of_every_kind_of_tokenizer(kind):
    tokenizer = TOKENIZERS[kind]
    encoded = found("the film, the 'movie': great\t-  film.", tokenizer)
    known = [word.text for word in encoded.words if word.text != "movie"]
    assert known == ["the", "film", "the", "great", "film"]
    assert (encoded.before, encoded.after) == (1, 1)
    for word in encoded.words:
        assert encoded.ids[word.position : word.position + len(word.pieces)] == list(word.pieces)


@each_kind
def test_a_word_after_a_space_is_one_piece(kind):
    (_, film, movie) = found("a great film movie", TOKENIZERS[kind]).words
    assert (film.text, len(film.pieces), len(movie.pieces)) == ("film", 1, 1)


@each_kind
def test_whole_words_of_a_vocabulary(kind):
    tokenizer = TOKENIZERS[kind]
    vocabulary = whole_words(tokenizer)
    expected = {"film", "the", "movie", "great"} | ({"un", "don"} if kind == "wordpiece" else set())
    # Byte-level: merges leave the beginnings of words, which are entries of their own.
    assert expected <= set(vocabulary.words)
    assert kind == "byte-level" or expected == set(vocabulary.words)
    assert [tokenizer.decode([index]).strip() for index in vocabulary.ids] == vocabulary.words
    assert all(word.isalpha() and len(word) > 1 for word in vocabulary.words)


def test_a_word_of_several_pieces():
    (word,) = found("Unfunny", TOKENIZERS["wordpiece"]).words
    assert (word.start, word.end, word.text, word.position, len(word.pieces)) == (0, 7, "Unfunny", 1, 3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("don't film's don’t film", ["film"]),
        ("'film' \"film\"", ["film", "film"]),
        ("a 3 film3 3film u.s. x_film", ["film"]),
        ("[MASK] film [SEP]", ["film"]),
        ("unknownword film", ["film"]),
        ("un-film", ["un", "film"]),
        ("film<br />film < film", ["film", "film", "film"]),
        ("film https://the.film/great?a=film film@great.movie @film film", ["film", "film"]),
        ("!?", []),
        ("\u200b\x00film", ["film"]),
        ("film \U0001f600 film", ["film", "film"]),
    ],
)
def test_what_stays(text, words):
    assert [word.text for word in found(text, TOKENIZERS["wordpiece"]).words] == words


def test_letters_without_spaces_are_cut_as_the_tokenizer_does():
    words = found("film 电影好", wordpiece(["film", "电", "影", "好"])).words
    assert [(word.text, word.start, len(word.pieces)) for word in words] == [
        *[("film", 0, 1), ("电", 5, 1), ("影", 6, 1), ("好", 7, 1)],
    ]


def test_accents_and_capitals_keep_their_places():
    words = found("ÉCOLE naïve  École", wordpiece(["ecole", "naive"])).words
    assert [(word.text, word.start, word.end) for word in words] == [
        ("ÉCOLE", 0, 5),
        ("naïve", 6, 11),
        ("École", 13, 18),
    ]


def test_all_between_the_words_stays():
    encoded = found("  The FILM,\tthe film -- don't.\n", TOKENIZERS["wordpiece"])
    assert encoded.replace(["a", "movie", None, "movie"]) == "  A MOVIE,\tthe movie -- don't.\n"
    assert encoded.replace([None] * 4) == encoded.text


@pytest.mark.parametrize(
    ("replacement", "word", "written"),
    [
        ("movie", "film", "movie"),
        ("movie", "Film", "Movie"),
        ("movie", "FILM", "MOVIE"),
        ("Paris", "home", "Paris"),
        ("McCoy", "Smith", "McCoy"),
        ("it", "I", "It"),
    ],
)
def test_capitals(replacement, word, written):
    assert match_case(replacement, word) == written


def test_choice_leaves_out_the_word_its_pieces_and_other_forms():
    vocabulary = Vocabulary([7, 8, 9, 10, 11], ["film", "Film", "movie", "Movie", "un"])
    film = Word(0, 4, "FILM", 1, (20,))
    assert vocabulary.choose([0, 1, 3, 2, 4], film, 2) == ["Movie", "un"]
    assert vocabulary.choose([0, 1, 3, 2, 4], film, 1) == ["Movie"]
    assert vocabulary.choose([4, 2], Word(0, 5, "unfun", 1, (11, 12)), 3) == ["movie"]
    assert vocabulary.choose([0], film, 3) == []


def test_a_tokenizer_without_offsets_is_refused(monkeypatch):
    tokenizer = wordpiece(WORDS)
    monkeypatch.setattr(type(tokenizer), "is_fast", property(lambda _: False))
    with pytest.raises(ModelError, match="cannot say where in the text a token stands"):
        encode_texts(["film"], tokenizer)
