"""ROUGE-L: how much of a text another one says in the same order."""

from __future__ import annotations

import re


def rouge_l(written: str, wanted: str) -> float:
    """Return the F1 of the longest common subsequence of two texts' words, from 0 to 1.

    Words are runs of letters and digits, in lower case; nothing is stemmed. With LCS words in common the precision is
    LCS / words written, the recall LCS / words wanted.

    Source: Lin, *ROUGE: A Package for Automatic Evaluation of Summaries*, 2004, section 3.1, equations 2 to 4 at β = 1,
    https://aclanthology.org/W04-1013.

    Example:
        >>> rouge_l("police kill the gunman", "police killed the gunman")
        0.75
    """
    one, other = (re.findall(r"\w+", text.lower()) for text in (written, wanted))
    if not one or not other:
        return 0.0
    # Twice the common words over all words is the harmonic mean of precision and recall.
    return 2 * common_subsequence(one, other) / (len(one) + len(other))


def common_subsequence(one: list[str], other: list[str]) -> int:
    """Return the length of the longest common subsequence."""
    lengths = [0] * (len(other) + 1)
    for word in one:
        diagonal = 0
        for place, against in enumerate(other, start=1):
            above = lengths[place]
            lengths[place] = diagonal + 1 if word == against else max(above, lengths[place - 1])
            diagonal = above
    return lengths[-1]
