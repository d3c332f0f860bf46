"""Scores of tagged words: whole entities where tags mark their begin and inside, single words otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

Entity = tuple[str, int, int]
"""What kind it is, its first word and its last."""

OUTSIDE = "O"
_BEGINS = ("B", "S", "U")
_GOES_ON = ("I", "E", "L", "M")
_ENDS = ("E", "L", "S", "U")


def marks_entities(tags: Iterable[str]) -> bool:
    """Say whether tags are `O` or `B-PER`, `I-PER` and so on (IOB, IOE, IOBES, BILOU), not plain ones like `NOUN`."""
    return all(tag == OUTSIDE or (tag[1:2] == "-" and tag[0] in (*_BEGINS, *_GOES_ON)) for tag in tags)


def entities(tags: Sequence[str]) -> list[Entity]:
    """Return the entities that tags mark, in order, read as the CoNLL evaluation does.

    An entity begins where a tag says so, and also at an `I-` after another kind or after `O`: so a wrong tag in one
    word does not undo the whole, and IOB1, IOB2, IOE, IOBES and BILOU are all read.

    Example:
        >>> entities(["B-PER", "I-PER", "O", "I-LOC"])
        [('PER', 0, 1), ('LOC', 3, 3)]
    """
    found: list[Entity] = []
    before, kind_before = OUTSIDE, ""
    for place, tag in enumerate(tags):
        prefix, _, kind = tag.partition("-")
        if tag != OUTSIDE:
            goes_on = prefix in _GOES_ON and before != OUTSIDE and before not in _ENDS and kind == kind_before
            first = found.pop()[1] if goes_on else place
            found.append((kind, first, place))
        before, kind_before = prefix, kind
    return found


def score_tags(answers: np.ndarray, references: np.ndarray) -> dict[str, float]:
    """Score tags, each entry a row's separated by spaces.

    Returns:
        `accuracy` over words. Where tags mark entities, also `precision`, `recall` and `f1` over whole entities, kind
        and both ends; they are 0 where there is none to divide by.
    """
    sums = [sum(counts) for counts in zip(*map(_counts, answers, references), strict=True)]
    right, words, hits, said, wanted, are_entities = sums
    scores = {"accuracy": right / words}
    if are_entities < len(answers):
        return scores
    precision, recall = hits / max(1, said), hits / max(1, wanted)
    f1 = 2 * hits / max(1, said + wanted)
    return {"f1": f1, "precision": precision, "recall": recall, **scores}


@lru_cache(maxsize=200_000)
def _counts(answer: str, reference: str) -> tuple[int, int, int, int, int, int]:
    """Count a row's right words, words, right entities, entities said and wanted, and whether tags mark entities.

    It is kept, for the bootstrap asks again and again.
    """
    predicted, tags = answer.split(" "), reference.split(" ")
    right = sum(one == other for one, other in zip(predicted, tags, strict=True))
    if not marks_entities({*predicted, *tags}):
        return right, len(tags), 0, 0, 0, 0
    said, wanted = set(entities(predicted)), set(entities(tags))
    return right, len(tags), len(said & wanted), len(said), len(wanted), 1
