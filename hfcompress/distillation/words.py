"""Words: which parts of a text may be replaced, and which entries of a vocabulary may stand there instead."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from hfcompress.errors import Fault, ModelError

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase

# What is found whole and is more than letters is left alone: tags, addresses, and what an apostrophe joins ("don't").
_WORD = re.compile(r"</?[A-Za-z][^<>]*>|\w+://\S+|[\w.+-]*@[\w.-]+|[^\W_]+(?:['’][^\W_]+)*")

CASE_FORMS = 3
"""A cased vocabulary may hold a word as `film`, `Film` and `FILM`."""


@dataclass(frozen=True)
class Word:
    """A word of a text that may be replaced.

    Args:
        start: Where it begins in the text, in characters.
        end: Where it ends.
        text: As it is written.
        position: Where its first piece stands among the text's tokens.
        pieces: The ids of its pieces.
    """

    start: int
    end: int
    text: str
    position: int
    pieces: tuple[int, ...]


@dataclass(frozen=True)
class EncodedText:
    """A text with its tokens and the words that may be replaced.

    Args:
        text: The original.
        ids: Its tokens, special ones around them.
        before: How many special tokens stand at the beginning.
        after: How many at the end.
        words: In their order.
    """

    text: str
    ids: list[int]
    before: int
    after: int
    words: list[Word]

    def replace(self, replacements: Sequence[str | None]) -> str:
        """Return the text with other words in it; None leaves a word, and all between the words stays as it is."""
        parts, end = [], 0
        for word, replacement in zip(self.words, replacements, strict=True):
            if replacement is not None:
                parts += [self.text[end : word.start], match_case(replacement, word.text)]
                end = word.end
        return "".join([*parts, self.text[end:]])


@dataclass(frozen=True)
class Vocabulary:
    """The entries of a tokenizer's vocabulary that are whole words.

    Args:
        ids: Their token ids.
        words: As they are written.
    """

    ids: list[int]
    words: list[str]

    def choose(self, ranked: Iterable[int], word: Word, count: int) -> list[str]:
        """Return the first `count` words of a ranking that differ from each other, and from the word and its pieces.

        Args:
            ranked: Indices into `ids` and `words`, the best first.
            word: The word to replace.
            count: How many.
        """
        chosen: dict[str, str] = {}
        for index in ranked:
            folded = self.words[index].casefold()
            if folded != word.text.casefold() and self.ids[index] not in word.pieces:
                chosen.setdefault(folded, self.words[index])
            if len(chosen) == count:
                break
        return list(chosen.values())


def encode_texts(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[EncodedText]:
    """Find the words of texts that may be replaced.

    Numbers, single letters, contractions and possessives (`don't`, `film's`), tags and addresses stay, as do words
    that the tokenizer does not know.

    Raises:
        ModelError: The tokenizer cannot say where in the text its tokens stand.
    """
    if not tokenizer.is_fast:
        problem = f"its tokenizer, a {type(tokenizer).__name__}, cannot say where in the text a token stands."
        raise ModelError(Fault(tokenizer.name_or_path, problem, "Use a model with a fast tokenizer (tokenizer.json)."))
    encoding = tokenizer(texts, return_offsets_mapping=True, truncation=False, verbose=False)
    return [_encoded(text, index, encoding, set(tokenizer.all_special_ids)) for index, text in enumerate(texts)]


def whole_words(tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
    """Return the entries of a vocabulary that may replace a word: those that, after a space, are read as they are.

    So pieces inside words fall out, whatever sign a tokenizer marks them with, as do special tokens, numbers and
    punctuation. Single letters do too: they are mostly initials and list marks.
    """
    special = set(tokenizer.all_special_ids)
    ids = [index for index in sorted(tokenizer.get_vocab().values()) if index not in special]
    written = {index: tokenizer.decode([index]).strip() for index in ids}
    words = {index: word for index, word in written.items() if len(word) > 1 and word.isalpha()}
    carrier = tokenizer("a", add_special_tokens=False)["input_ids"]
    encoded = (
        tokenizer([f"a {word}" for word in words.values()], add_special_tokens=False)["input_ids"] if words else []
    )
    kept = [index for index, found in zip(words, encoded, strict=True) if found == [*carrier, index]]
    return Vocabulary(kept, [words[index] for index in kept])


def match_case(replacement: str, word: str) -> str:
    """Write a replacement with the capitals of the word that it stands for.

    Example:
        >>> match_case("movie", "Film"), match_case("movie", "FILM"), match_case("Paris", "home")
        ('Movie', 'MOVIE', 'Paris')
    """
    if word.isupper() and len(word) > 1:
        return replacement.upper()
    return replacement[0].upper() + replacement[1:] if word[0].isupper() else replacement


def _encoded(text: str, index: int, encoding: BatchEncoding, special: set[int]) -> EncodedText:
    ids, owners = encoding["input_ids"][index], encoding.word_ids(index)
    before = next((place for place, owner in enumerate(owners) if owner is not None), len(ids))
    after = next((place for place, owner in enumerate(reversed(owners)) if owner is not None), 0)
    words = []
    for match in _WORD.finditer(text):
        if len(match[0]) == 1 or not match[0].isalpha():
            continue
        first, last = (encoding.char_to_token(index, place) for place in (match.start(), match.end() - 1))
        if first is None or last is None:
            continue
        # Languages without spaces: the tokenizer's words are finer than runs of letters.
        for _, group in groupby(range(first, last + 1), key=owners.__getitem__):
            tokens = list(group)
            start = max(encoding["offset_mapping"][index][tokens[0]][0], match.start())
            end = min(encoding["offset_mapping"][index][tokens[-1]][1], match.end())
            pieces = tuple(ids[token] for token in tokens)
            if start < end and not special & set(pieces):
                words.append(Word(start, end, text[start:end], tokens[0], pieces))
    return EncodedText(text, ids, before, after, words)
