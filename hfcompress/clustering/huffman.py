"""Huffman codes: short words for frequent symbols, written and read by blocks that are worked on side by side."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

LONGEST = 16
"""Bits of a word at most; a table of all words of that length then finds the next symbol at once."""

_WORD = 64

_AT_ONCE = 2**15
"""Symbols that are written at once: what that takes stays in the processor's cache."""


class DamagedCodeError(ValueError):
    """Bytes that no encoder wrote."""


@dataclass(frozen=True)
class Coded:
    """Symbols as bits.

    Args:
        sizes: Bits of each block, `(blocks,)`, int64.
        data: The words one after another, the first bit of each byte being its highest.
    """

    sizes: np.ndarray
    data: bytes


def word_lengths(counts: np.ndarray, longest: int = LONGEST) -> np.ndarray:
    """Return how long each symbol's word is in the code that takes the fewest bits, none longer than `longest`.

    Huffman's code (1952), where that is short enough; else package-merge (Larmore and Hirschberg 1990).

    Args:
        counts: How often each symbol occurs, `(symbols,)`.
        longest: Bits of a word at most.

    Returns:
        `(symbols,)`, uint8; 0 for a symbol that does not occur. A symbol that stands alone has a word of one bit.

    Raises:
        ValueError: There are more symbols than words of that length.
    """
    lengths = np.zeros(len(counts), dtype=np.uint8)
    used = np.flatnonzero(counts)
    if len(used) < 2:
        lengths[used] = 1
        return lengths
    if len(used) > 2**longest:
        raise ValueError(f"{len(used)} symbols are too many for words of {longest} bits")
    frequencies = [int(counts[symbol]) for symbol in used]
    free = _huffman(frequencies)
    lengths[used] = free if max(free) <= longest else _package_merge(frequencies, longest)
    return lengths


def _huffman(counts: list[int]) -> list[int]:
    """Return the lengths of Huffman's code."""
    heap = [(count, leaf) for leaf, count in enumerate(counts)]
    heapq.heapify(heap)
    parents = [0] * (2 * len(counts) - 1)
    for node in range(len(counts), len(parents)):
        (one, left), (other, right) = heapq.heappop(heap), heapq.heappop(heap)
        parents[left] = parents[right] = node
        heapq.heappush(heap, (one + other, node))
    depths = [0] * len(parents)
    for node in range(len(parents) - 2, -1, -1):
        depths[node] = depths[parents[node]] + 1
    return depths[: len(counts)]


def _package_merge(counts: list[int], longest: int) -> list[int]:
    """Return the lengths of the best code that has no word longer than that."""
    coins = sorted((count, (leaf,)) for leaf, count in enumerate(counts))
    packages: list[tuple[int, tuple[int, ...]]] = []
    for _ in range(longest):
        merged = list(heapq.merge(coins, packages))
        pairs = zip(merged[::2], merged[1::2], strict=False)
        packages = [(one + other, left + right) for (one, left), (other, right) in pairs]
    lengths = [0] * len(counts)
    for _, leaves in packages[: len(counts) - 1]:
        for leaf in leaves:
            lengths[leaf] += 1
    return lengths


def check_lengths(lengths: np.ndarray) -> None:
    """Make sure that words of these lengths are a whole code: `Σ 2^-length = 1` (Kraft 1949), or one word of one bit.

    Raises:
        DamagedCodeError: They are not.
    """
    used = lengths[lengths > 0].astype(np.int64)
    if len(used) == 1 and used[0] == 1:
        return
    if not len(used) or used.max() > LONGEST or int((1 << (LONGEST - used)).sum()) != 1 << LONGEST:
        raise DamagedCodeError("the lengths of the words are not those of a code")


def canonical_words(lengths: np.ndarray) -> np.ndarray:
    """Return each symbol's word: shorter ones first, and of one length in the order of the symbols.

    Args:
        lengths: Bits of each word, `(symbols,)`.

    Returns:
        `(symbols,)`, uint64, the word being the lowest bits.
    """
    words = np.zeros(len(lengths), dtype=np.uint64)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    sizes = lengths[order].astype(np.int64)
    starts = np.cumsum(np.int64(1) << (LONGEST - sizes)) - (np.int64(1) << (LONGEST - sizes))
    words[order] = (starts >> (LONGEST - sizes)).astype(np.uint64)
    return words


def encode(symbols: np.ndarray, lengths: np.ndarray, block: int) -> Coded:
    """Write symbols as bits.

    Args:
        symbols: At least one, `(count,)`; each has a word.
        lengths: Bits of each symbol's word, `(symbols,)`.
        block: How many symbols a block has.
    """
    codes, sizes = canonical_words(lengths), lengths.astype(np.int64)
    blocks = np.add.reduceat(lengths[symbols], np.arange(0, len(symbols), block), dtype=np.int64)
    total = int(blocks.sum())
    words = np.zeros((total - 1) // _WORD + 2, dtype=np.uint64)
    at = 0
    for start in range(0, len(symbols), _AT_ONCE):
        some = symbols[start : start + _AT_ONCE]
        at = _put(words, at, codes[some], sizes[some])
    return Coded(blocks, words.astype(">u8").tobytes()[: (total + 7) // 8])


def _put(words: np.ndarray, at: int, codes: np.ndarray, bits: np.ndarray) -> int:
    """Write codes one behind the other into words of 64 bits; return the bit behind the last.

    Args:
        words: Written to.
        at: The bit at which the first code goes.
        codes: `(count,)`, uint64, each being the lowest bits.
        bits: Of each code, `(count,)`, int64.
    """
    ends = np.cumsum(bits)
    starts = ends - bits + at
    places = starts // _WORD
    room = _WORD - starts % _WORD - bits
    inside = codes << np.maximum(room, 0).astype(np.uint64)
    over = np.flatnonzero(room < 0)  # what begins in one word and ends in the next
    inside[over] = codes[over] >> (-room[over]).astype(np.uint64)
    changes = np.append(0, np.flatnonzero(places[1:] != places[:-1]) + 1)
    words[places[changes]] |= np.bitwise_or.reduceat(inside, changes)
    words[places[over] + 1] |= codes[over] << (_WORD + room[over]).astype(np.uint64)
    return at + int(ends[-1])


def decode(coded: Coded, lengths: np.ndarray, count: int, block: int) -> np.ndarray:
    """Read symbols, all blocks at the same time.

    Args:
        coded: What `encode` returned.
        lengths: Bits of each symbol's word, `(symbols,)`.
        count: How many symbols there are.
        block: How many symbols a block has.

    Returns:
        `(count,)`, uint16.

    Raises:
        DamagedCodeError: No encoder wrote this.
    """
    check_lengths(lengths)
    ends = np.cumsum(coded.sizes)
    if len(ends) != -(-count // block) or (int(ends[-1]) + 7) // 8 != len(coded.data):
        raise DamagedCodeError("there are more bits, or fewer, than the blocks have")
    at = ends - coded.sizes
    padded = np.frombuffer(coded.data + bytes(3), dtype=np.uint8).astype(np.int32)
    three = (padded[:-2] << 16) | (padded[1:-1] << 8) | padded[2:]
    table = _table(lengths)
    out = np.zeros((block, len(at)), dtype=np.int32)
    in_last = count - (len(at) - 1) * block
    _read(three, table, at, out[:in_last])
    finished = at.copy()
    if len(at) > 1:
        _read(three, table, at[:-1], out[in_last:, :-1])
        finished[:-1] = at[:-1]
    if not np.array_equal(finished, ends):
        raise DamagedCodeError("the words do not end where their block does")
    return (out >> 5).astype(np.uint16).T.ravel()[:count]


def _read(three: np.ndarray, table: np.ndarray, at: np.ndarray, out: np.ndarray) -> None:
    """Read one symbol of each block after another, `(symbols, blocks)`; `at` moves on, `out` is written to."""
    for row in out:
        seen = three.take(at >> 3, mode="clip") >> (8 - (at & 7))
        entries = table.take(seen & 0xFFFF)
        row[:] = entries
        at += entries & 31


def _table(lengths: np.ndarray) -> np.ndarray:
    """Return what stands at the front of each 16 bits, as `symbol · 32 + length`, `(2**16,)`."""
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    sizes = lengths[order].astype(np.int64)
    filled = np.repeat(order.astype(np.int64) * 32 + sizes, 1 << (LONGEST - sizes))
    return np.resize(filled, 1 << LONGEST)  # a word that stands alone fills half of it
