"""Finding the values that recur in a tensor: in all of it, or in each group of its rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LARGEST = 4096
"""Values of a codebook at most."""

_SAMPLE = 2**16
_GLANCE = 2**12
"""How many numbers are looked at before all are: for the values, and to see whether there are few."""

_DOUBT = 0.1
"""Bits by which smaller groups must seem better than all numbers together: the glance is short."""

_GROUPS = 5
"""How many groups are glanced at: the first row is often that of padding."""

_WORTHWHILE = 3
"""How often a value recurs that stands in the codebook."""


@dataclass(frozen=True)
class Shared:
    """Numbers as places in codebooks.

    Args:
        group: How many numbers in a row have a codebook in common.
        books: The codebook of each group.
        places: Of each number in its group's codebook, `(count,)`, uint16; one beyond the largest for what is in none.
        others: The numbers that are in none, in order.
    """

    group: int
    books: list[np.ndarray]
    places: np.ndarray
    others: np.ndarray


def find_shared(values: np.ndarray, row: int) -> Shared | None:
    """Look for codebooks: one for all numbers, or one for each group of rows, whichever seems to take less.

    Args:
        values: Unsigned integers, `(count,)`.
        row: How many numbers a row has.

    Returns:
        None where most numbers do not recur.
    """
    row = min(max(row, 1), len(values))
    rows = len(values) // row if row else 0
    bits: dict[int, float] = {}
    while rows:
        group = len(values) if rows * row > len(values) // 2 else rows * row
        starts = range(0, len(values), group)
        some = [values[start : start + group] for start in starts[:: -(-len(starts) // _GROUPS)]]
        bits[group] = sum(map(_bits, some)) / len(some) + (_DOUBT if bits else 0)
        rows = (rows + 1) // 2 if rows > 1 else 0
    group = min(bits, key=lambda group: bits[group], default=0)
    return _share(values, group) if group and np.isfinite(bits[group]) else None


def _bits(values: np.ndarray) -> float:
    """Return about how many bits each of some numbers takes with a codebook, by a glance; infinite without gain."""
    glance = values[:: -(-len(values) // _GLANCE)]
    _, counts = np.unique(glance, return_counts=True)
    if len(counts) > max(4, len(glance) // 16) and int(counts[counts > 1].sum()) <= 0.75 * len(glance):
        return float("inf")
    share = counts / len(glance)
    bits = float(-(share * np.log2(share)).sum()) + 8 * values.itemsize * len(counts) / len(values)
    return bits if bits < 8 * values.itemsize else float("inf")


def _share(values: np.ndarray, group: int) -> Shared:
    parts = [values[start : start + group] for start in range(0, len(values), group)]
    books = [_book(part) for part in parts]
    if any(len(book) and book[0] == 0 for book in books):  # the same place everywhere for what pruning leaves
        books = [book if len(book) and book[0] == 0 else np.insert(book, 0, 0) for book in books]
    escape = max(len(book) for book in books)
    places = np.concatenate([_look_up(part, book, escape) for part, book in zip(parts, books, strict=True)])
    return Shared(group, books, places, values[places == escape])


def _book(values: np.ndarray) -> np.ndarray:
    """Return the values that recur, sorted."""
    found, counts = np.unique(values[:: max(1, len(values) // _SAMPLE)], return_counts=True)
    book = _commonest(found, counts, 2)
    left = values[_look_up(values, book, len(book)) == len(book)]
    more, counts = np.unique(left, return_counts=True)
    return np.sort(np.concatenate([book, _commonest(more, counts, _WORTHWHILE)])[:LARGEST])


def _commonest(values: np.ndarray, counts: np.ndarray, least: int) -> np.ndarray:
    """Return the values that occur so often, the commonest first, no more than a codebook takes."""
    order = np.argsort(-counts, kind="stable")[:LARGEST]
    return values[order[counts[order] >= least]]


def _look_up(values: np.ndarray, book: np.ndarray, absent: int) -> np.ndarray:
    """Return each number's place in a codebook, `absent` where it is not in there."""
    if not len(book):
        return np.full(len(values), absent, dtype=np.uint16)
    order = np.argsort(book)
    places = np.minimum(np.searchsorted(book[order], values), len(book) - 1).astype(np.uint16)
    places = order.astype(np.uint16)[places]
    places[book[places] != values] = absent
    return places
