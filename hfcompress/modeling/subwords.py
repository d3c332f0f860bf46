"""What a tokenizer's pieces are made of: which others a piece needs, and which of them read any word."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")

Pair = tuple[str, str]


@dataclass(frozen=True)
class Subwords:
    """The pieces of one tokenizer, of any kind that the `tokenizers` library knows.

    Args:
        kind: `WordPiece`, `BPE`, `Unigram` or `WordLevel`.
        ids: Number by piece, without added tokens that are no pieces.
        ranks: BPE's merges in their order.
        prefix: What marks a piece inside a word (WordPiece's `##`).
        suffix: What marks a piece at a word's end.
        always: Pieces without which all others would be read in another way.
    """

    kind: str
    ids: Mapping[str, int]
    ranks: Mapping[Pair, int]
    prefix: str = ""
    suffix: str = ""
    always: frozenset[str] = frozenset()

    @classmethod
    def of(cls, model: Mapping[str, Any]) -> Subwords:
        """Read the part `model` of what `Tokenizer.to_str` returns."""
        kind, vocabulary = str(model["type"]), model["vocab"]
        if kind == "Unigram":
            ids = {piece: number for number, (piece, _) in enumerate(vocabulary)}
            # What is unknown costs as much as the least likely piece and ten more: that piece decides.
            rarest = min(vocabulary, key=lambda entry: entry[1])[0]
            unknown = model.get("unk_id")
            found = {rarest} if unknown is None else {rarest, vocabulary[unknown][0]}
            return cls(kind, ids, {}, always=frozenset(found))
        unknown = {str(model["unk_token"])} if model.get("unk_token") else set()
        return cls(
            kind,
            vocabulary,
            {pair_of(merge): rank for rank, merge in enumerate(model.get("merges", ()))},
            prefix=model.get("continuing_subword_prefix") or "",
            suffix=model.get("end_of_word_suffix") or "",
            always=frozenset(unknown & set(vocabulary)),
        )

    def symbols(self, piece: str) -> list[str]:
        """Return the pieces of one character that a piece is made of.

        Example:
            >>> Subwords("WordPiece", {}, {}, prefix="##").symbols("##ing")
            ['##i', '##n', '##g']
        """
        is_inside = bool(self.prefix) and piece.startswith(self.prefix)
        is_last = bool(self.suffix) and piece.endswith(self.suffix)
        body = piece[len(self.prefix) if is_inside else 0 : len(piece) - len(self.suffix) if is_last else None]
        found = [self.prefix + letter if is_inside or place else letter for place, letter in enumerate(body)]
        if is_last and found:
            found[-1] += self.suffix
        return found

    def fallback(self) -> set[str]:
        """Return the pieces into which any word falls that the tokenizer can read at all.

        These are single characters (bytes), and pieces with a character that has no piece of its own.
        """
        if self.kind == "WordLevel":
            return set()
        found = set()
        for piece in self.ids:
            parts = self.symbols(piece)
            if len(parts) == 1 or not all(part in self.ids for part in parts) or _BYTE.fullmatch(piece):
                found.add(piece)
        return found

    def needed(self, piece: str) -> set[str]:
        """Return a piece with all that BPE merges on the way to it; any other kind needs the piece alone.

        No merge reaches across the ends of a piece that is left when BPE is done with a word, so inside a word the way
        to a piece is the same as on the piece alone.
        """
        found = {piece}
        if not self.ranks:
            return found
        parts = self.symbols(piece)
        found.update(parts)
        while len(parts) > 1:
            pairs = zip(parts, parts[1:], strict=False)
            known = [(self.ranks[pair], place) for place, pair in enumerate(pairs) if pair in self.ranks]
            if not known:
                return {piece}  # it is taken as a whole, or never
            _, place = min(known)
            parts[place : place + 2] = [self.merged(parts[place], parts[place + 1])]
            found.add(parts[place])
        return found if parts == [piece] else {piece}

    def merged(self, left: str, right: str) -> str:
        """Return what BPE makes of two pieces."""
        return left + right.removeprefix(self.prefix)

    def inside(self, word: str) -> set[str]:
        """Return every piece that occurs in a word: with these alone the word is read as with all."""
        longest = max(map(len, self.ids))
        ends = (
            (start, end) for start in range(len(word)) for end in range(start + 1, min(len(word), start + longest) + 1)
        )
        found = set()
        for start, end in ends:
            text = word[start:end]
            found |= {text, self.prefix + text, text + self.suffix, self.prefix + text + self.suffix} & self.ids.keys()
        return found


def pair_of(merge: str | list[str]) -> Pair:
    """Return the two pieces of a merge, which older files write as one text."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right
