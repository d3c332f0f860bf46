"""Answers as spans of a context: whether they stand there, at which tokens, which a model means, how it is scored."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from hfcompress.errors import Fault

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

Offset = Sequence[int]
"""Where a token begins and ends in the context, in characters; `(-1, -1)` for tokens that are not of it."""

OUTSIDE = (-1, -1)
CANDIDATES = 20
LONGEST_ANSWER = 30
_ARTICLES = frozenset({"a", "an", "the"})
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def answer_faults(rows: Dataset, part: str) -> list[Fault]:
    """Return what is wrong with answers: their form, or texts that do not stand where they should."""
    labels, contexts = rows["labels"], rows["text_pair"]
    strange = [index for index, answer in enumerate(labels) if not _is_answer(answer)]
    if strange:
        first = f"the first is row {strange[0]}, from 0: {labels[strange[0]]!r}"
        fix = 'Write {"text": ["…"], "answer_start": [0]}, with empty lists where there is no answer.'
        return [Fault("labels", f"{len(strange)} {part} rows have no answers as SQuAD writes them ({first}).", fix)]
    bad = [
        (index, text, start, context[start : start + len(text)] if start >= 0 else "")
        for index, (answer, context) in enumerate(zip(labels, contexts, strict=True))
        for text, start in zip(answer["text"], answer["answer_start"], strict=True)
        if start < 0 or not text or context[start : start + len(text)] != text
    ]
    if not bad:
        return []
    index, text, start, found = bad[0]
    problem = (
        f"{len({index for index, *_ in bad})} {part} rows have an answer that does not stand at its answer_start "
        f"(the first is row {index}, from 0: {text!r} at character {start}, where {found!r} stands)."
    )
    return [Fault("labels", problem, "Correct answer_start, counted in characters from 0, or leave those rows out.")]


def _is_answer(value: object) -> bool:
    if not isinstance(value, Mapping):
        return False
    texts, starts = value.get("text"), value.get("answer_start")
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        return False
    return all(isinstance(text, str) for text in texts) and all(isinstance(start, int) for start in starts)


def token_span(offsets: Sequence[Offset], begin: int, end: int) -> tuple[int, int] | None:
    """Return the first and last token of the characters `begin` up to `end`, None when some are not there.

    Args:
        offsets: Of a feature's tokens.
        begin: The first character.
        end: The character after the last.
    """
    inside = [index for index, (first, _) in enumerate(offsets) if first >= 0]
    if not inside or offsets[inside[0]][0] > begin or offsets[inside[-1]][1] < end:
        return None
    first = max(index for index in inside if offsets[index][0] <= begin)
    last = min(index for index in inside if offsets[index][1] >= end)
    return (first, last) if first <= last else None


def best_span(start: np.ndarray, end: np.ndarray, offsets: np.ndarray) -> tuple[float, int, int] | None:
    """Return the score of the best span of at most 30 tokens and its first and last character; None when there is none.

    The 20 best first tokens are tried with the 20 best last ones.

    Args:
        start: Logits of the first token, `(seq,)`.
        end: Logits of the last token, `(seq,)`.
        offsets: `(seq, 2)`.
    """
    import numpy as np

    inside = np.flatnonzero(offsets[:, 0] >= 0)
    starts = inside[np.argsort(-start[inside], kind="stable")[:CANDIDATES]]
    ends = inside[np.argsort(-end[inside], kind="stable")[:CANDIDATES]]
    lengths = ends[None, :] - starts[:, None] + 1
    scores = np.where((lengths >= 1) & (lengths <= LONGEST_ANSWER), start[starts][:, None] + end[ends], -np.inf)
    if not scores.size or scores.max() == -np.inf:
        return None
    first, last = np.unravel_index(scores.argmax(), scores.shape)
    return float(scores[first, last]), int(offsets[starts[first], 0]), int(offsets[ends[last], 1])


def normalize(answer: str) -> str:
    """Bring an answer into the form that SQuAD compares: lower case, no punctuation, no articles, single spaces.

    Example:
        >>> normalize("The  Film, a plot!")
        'film plot'
    """
    words = answer.lower().translate(_PUNCTUATION).split()
    return " ".join(word for word in words if word not in _ARTICLES)


@lru_cache(maxsize=200_000)
def score_answer(answer: str, wanted: tuple[str, ...]) -> tuple[float, float]:
    """Return exact match and F1 of the words in common, each the best over the right answers.

    Args:
        answer: What the model said; empty when it says that there is no answer.
        wanted: The right answers, none when there is none.
    """
    found = normalize(answer)
    right = [text for text in map(normalize, wanted) if text] or [""]
    return max(float(found == text) for text in right), max(_f1(found.split(), text.split()) for text in right)


def _f1(found: list[str], wanted: list[str]) -> float:
    if not found or not wanted:
        return float(found == wanted)
    common = (Counter(found) & Counter(wanted)).total()
    return 2 * common / (len(found) + len(wanted))
