"""Huffman codes: lengths by hand, whole codes, round trips, and bits that no encoder wrote."""

import heapq
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfcompress.clustering.huffman import (
    LONGEST,
    Coded,
    DamagedCodeError,
    canonical_words,
    check_lengths,
    decode,
    encode,
    word_lengths,
)

counts_of = st.lists(st.integers(0, 10**6), min_size=1, max_size=300)


def shortest(counts):
    """Bits that Huffman's code takes in all: the sum of all merged counts."""
    heap = [count for count in counts if count]
    heapq.heapify(heap)
    total = 0
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        total += merged
        heapq.heappush(heap, merged)
    return total


@pytest.mark.parametrize(
    ("counts", "lengths"),
    [
        ([], []),
        ([0, 0], [0, 0]),
        ([0, 7], [0, 1]),
        ([3, 5], [1, 1]),
        ([5, 1, 1, 2], [1, 3, 3, 2]),
        ([1, 1, 1, 1], [2, 2, 2, 2]),
        ([45, 13, 12, 16, 9, 5], [1, 3, 3, 3, 4, 4]),  # Cormen et al., figure 16.3
    ],
)
def test_lengths_by_hand(counts, lengths):
    assert word_lengths(np.array(counts, dtype=np.int64)).tolist() == lengths


def test_limited_lengths_by_hand():
    # Free words would have 1, 2, 3, 4 and 4 bits; of at most three bits the best have 1, 3, 3, 3 and 3.
    assert word_lengths(np.array([16, 8, 4, 2, 1]), longest=3).tolist() == [1, 3, 3, 3, 3]


def test_fibonacci_counts_stay_below_the_limit():
    counts = [1, 1]
    while len(counts) < 30:
        counts.append(counts[-1] + counts[-2])
    lengths = word_lengths(np.array(counts))
    assert lengths.max() == LONGEST
    check_lengths(lengths)


def test_too_many_symbols_are_refused():
    with pytest.raises(ValueError, match="5 symbols are too many for words of 2 bits"):
        word_lengths(np.ones(5, dtype=np.int64), longest=2)


@given(counts_of)
def test_codes_are_whole_and_shortest(counts):
    lengths = word_lengths(np.array(counts)).astype(int)
    used = lengths[lengths > 0]
    assert [length > 0 for length in lengths] == [count > 0 for count in counts]
    if len(used) > 1:
        assert sum(2.0**-length for length in used) == 1
        total = int((lengths * np.array(counts)).sum())
        assert total == shortest(counts) or lengths.max() == LONGEST


@given(counts_of)
def test_no_word_begins_with_another(counts):
    lengths = word_lengths(np.array(counts))
    words = canonical_words(lengths)
    texts = sorted(f"{int(words[i]):0{int(lengths[i])}b}" for i in np.flatnonzero(lengths))
    assert not any(after.startswith(before) for before, after in zip(texts, texts[1:], strict=False))


def test_canonical_words_by_hand():
    # Short words first, equal ones in the order of the symbols: B 0, C 10, A 110, D 111.
    assert canonical_words(np.array([3, 1, 2, 3], dtype=np.uint8)).tolist() == [0b110, 0b0, 0b10, 0b111]


def test_bits_by_hand():
    lengths = np.array([3, 1, 2, 3], dtype=np.uint8)
    coded = encode(np.array([1, 0, 2, 3, 1]), lengths, block=2)
    assert coded.sizes.tolist() == [4, 5, 1]
    assert coded.data == bytes([0b0_110_10_11, 0b1_0_000000])


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 400), st.integers(1, 3000), st.sampled_from([1, 7, 64, 1024]))
def test_what_is_written_is_read(seed, alphabet, count, block):
    rng = np.random.default_rng(seed)
    symbols = np.minimum(rng.geometric(rng.uniform(0.01, 1), count) - 1, alphabet - 1)
    lengths = word_lengths(np.bincount(symbols, minlength=alphabet))
    coded = encode(symbols, lengths, block)
    assert len(coded.sizes) == math.ceil(count / block)
    assert np.array_equal(decode(coded, lengths, count, block), symbols)


@settings(deadline=None)
@given(st.binary(max_size=60), st.lists(st.integers(0, 255), min_size=1, max_size=40), st.integers(1, 200), st.data())
def test_garbage_is_read_or_refused(data, lengths, count, draw):
    sizes = draw.draw(st.lists(st.integers(0, 2**33), min_size=0, max_size=8))
    coded = Coded(np.array(sizes, dtype=np.int64), data)
    try:
        symbols = decode(coded, np.array(lengths, dtype=np.uint8), count, 32)
    except DamagedCodeError:
        return
    assert len(symbols) == count
    assert symbols.max() < len(lengths)


@pytest.mark.parametrize("lengths", [[0], [2], [1, 2], [1, 1, 1], [17] * 2, [1, 2, 3]])
def test_lengths_that_are_no_code_are_refused(lengths):
    with pytest.raises(DamagedCodeError):
        check_lengths(np.array(lengths, dtype=np.uint8))


def test_every_flipped_size_is_found():
    symbols = np.arange(100) % 3
    lengths = word_lengths(np.bincount(symbols))
    coded = encode(symbols, lengths, 16)
    for place in range(len(coded.sizes) - 1):
        sizes = coded.sizes.copy()
        sizes[place] += 1
        sizes[place + 1] -= 1
        with pytest.raises(DamagedCodeError):
            decode(Coded(sizes, coded.data), lengths, 100, 16)
