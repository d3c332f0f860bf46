"""The coding of tensors: every bit comes back, hostile ones included; each in the cheapest form; garbage is refused."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hfcompress.clustering.container.coding import (
    _gaps,
    code_bytes,
    code_values,
    read_values,
    write_codebook,
    write_planes,
)
from hfcompress.clustering.container.dictionary import find_shared
from hfcompress.clustering.container.streams import Reader, read_stream, stream_bytes, write_stream
from hfcompress.clustering.huffman import DamagedCodeError

WORDS = [1, 2, 4, 8]
unsigned = st.sampled_from(WORDS).flatmap(
    lambda word: arrays.arrays(f"<u{word}", st.integers(0, 400), elements=st.integers(0, 256**word - 1))
)
few = st.sampled_from(WORDS).flatmap(
    lambda word: arrays.arrays(f"<u{word}", st.integers(0, 3000), elements=st.sampled_from([0, 1, 7, 256**word - 1]))
)


def check(values, row=1):
    """Code and read; return coding and bytes."""
    coding, coded = code_values(values, row)
    assert read_values(coding, coded, values.nbytes, values.itemsize) == values.tobytes()
    return coding, coded


@settings(deadline=None)
@given(unsigned | few, st.integers(1, 50))
def test_any_numbers_come_back(values, row):
    check(values, row)


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("count", [0, 1, 2, 5000])
def test_constants_take_next_to_nothing(word, count):
    values = np.full(count, 3, dtype=f"<u{word}")
    assert len(check(values)[1]) <= 40


def test_weights_of_sixteen_values_take_about_four_bits():
    rng = np.random.default_rng(0)
    book = rng.standard_normal(16).astype(np.float32).view(np.uint32)
    values = book[rng.integers(0, 16, 50_000)]
    coding, coded = check(values, 100)
    assert coding == "codebook"
    assert len(coded) == pytest.approx(50_000 / 2, rel=0.02)


def test_skewed_places_take_their_entropy():
    rng = np.random.default_rng(0)
    share = np.array([0.6, 0.2, 0.1, 0.05, 0.05])
    book = rng.standard_normal(5).astype(np.float32).view(np.uint32)
    values = book[rng.choice(5, 100_000, p=share)]
    entropy = -(share * np.log2(share)).sum() * 100_000 / 8
    assert entropy <= len(check(values, 100)[1]) <= 1.05 * entropy


@pytest.mark.parametrize("zeros", [0.8, 0.95, 0.999])
def test_runs_of_zeros_cost_less_than_a_bit_each(zeros):
    rng = np.random.default_rng(0)
    book = rng.standard_normal(8).astype(np.float32).view(np.uint32)
    values = np.where(rng.random(200_000) < zeros, 0, book[rng.integers(0, 8, 200_000)]).astype(np.uint32)
    coding, coded = check(values, 400)
    entropy = -zeros * np.log2(zeros) - (1 - zeros) * np.log2((1 - zeros) / 8)
    assert coding == "codebook"
    assert 8 * len(coded) / len(values) == pytest.approx(entropy, rel=0.05, abs=0.02)


def test_each_group_of_rows_has_its_own_codebook():
    rng = np.random.default_rng(0)
    books = rng.standard_normal((64, 16)).astype(np.float32).view(np.uint32)
    values = np.concatenate([np.sort(book)[rng.integers(0, 16, 4 * 384)] for book in books])
    coding, coded = check(values, 384)
    assert coding == "codebook"
    assert 8 * len(coded) / len(values) < 4.6
    assert find_shared(values, 384).group == 4 * 384


@pytest.mark.parametrize("row", [1, 2, 3, 7])
def test_narrow_rows_of_other_numbers_each_have_no_codebooks(row):
    """A codebook of a few numbers takes as much as they do; to look for one in each would take hours."""
    values = np.random.default_rng(0).standard_normal(4096).astype(np.float32).view(np.uint32)
    assert find_shared(values, row) is None
    assert check(values, row)[0] == "planes"


def test_outliers_are_written_out_and_all_else_by_codebook():
    rng = np.random.default_rng(0)
    values = rng.standard_normal(16).astype(np.float32)[rng.integers(0, 16, 40_000)]
    values[::200] = 5 * rng.standard_normal(200).astype(np.float32)
    shared = find_shared(values.view(np.uint32), 400)
    assert len(shared.others) == 200
    coding, coded = check(values.view(np.uint32), 400)
    assert coding == "codebook"
    assert len(coded) < 40_000 * (4.2 + 0.005 * 32) / 8


def test_exponents_of_random_weights_are_coded():
    values = np.random.default_rng(0).standard_normal(50_000).astype(np.float32)
    coding, coded = check(values.view(np.uint32), 100)
    assert coding == "planes"
    assert 0.80 < len(coded) / values.nbytes < 0.86
    half = values.view(np.uint32) >> 16  # bfloat16
    assert 0.62 < len(check(half.astype(np.uint16), 100)[1]) / (2 * len(half)) < 0.72


def test_special_numbers_keep_their_bits():
    values = np.array([0x7FC00001, 0x7F800001, 0x80000000, 0, 0xFF800000, 0xFFFFFFFF] * 50, dtype=np.uint32)
    check(values)
    check(values[:6])


@pytest.mark.parametrize(
    ("kept", "numbers"),
    [([], []), ([0], [0]), ([3, 4], [3, 0]), ([254], [254]), ([255], [255, 0]), ([600], [255, 255, 90])],
)
def test_gaps_by_hand(kept, numbers):
    assert _gaps(np.array(kept, dtype=np.int64)).tolist() == numbers


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), max_size=2000), st.sampled_from([10, 300]))
def test_streams_come_back(symbols, alphabet):
    symbols = np.array(symbols, dtype=np.int64)
    data = write_stream(symbols, alphabet)
    assert np.array_equal(read_stream(Reader(data), len(symbols), alphabet), symbols)
    assert len(data) <= stream_bytes(np.bincount(symbols, minlength=alphabet)) + 16


@pytest.mark.parametrize("data", [b"", b"a", b"text " * 1000, bytes(range(256)) * 3])
def test_text_comes_back(data):
    coding, coded = code_bytes(data)
    assert read_values(coding, coded, len(data), 1) == data
    assert len(coded) <= len(data) + 3


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(["planes", "codebook", "lzma", "zip"]), st.binary(max_size=400), st.integers(0, 999), st.data())
def test_garbage_is_refused_or_has_the_size_that_was_announced(coding, data, numbers, draw):
    word = draw.draw(st.sampled_from(WORDS))
    try:
        found = read_values(coding, data, numbers * word, word)
    except DamagedCodeError:
        return
    assert len(found) == numbers * word


def test_codebooks_of_nothing_are_refused():
    with pytest.raises(DamagedCodeError, match="not as many as the groups"):  # found by fuzzing
        read_values("codebook", struct.pack("<III", 1, 0, 0) + bytes(64), 0, 4)


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 10**6), st.integers(0, 255), st.sampled_from(["planes", "codebook", "lzma"]), st.booleans())
def test_damaged_codes_are_refused_or_have_the_size_that_was_announced(place, byte, coding, sparse):
    rng = np.random.default_rng(0)
    values = np.array([0, 5, 9], dtype=np.uint32)[rng.choice(3, 3000, p=[0.9, 0.05, 0.05] if sparse else None)]
    shared = find_shared(values, 30)
    whole = {
        "planes": lambda: write_planes(values),
        "codebook": lambda: write_codebook(shared, 4),
        "lzma": lambda: code_bytes(values.tobytes())[1],
    }[coding]()
    damaged = bytearray(whole)
    damaged[place % len(damaged)] = byte
    try:
        found = read_values(coding, bytes(damaged), values.nbytes, 4)
    except DamagedCodeError:
        return
    assert len(found) == values.nbytes


def test_lzma_gives_no_more_than_was_announced():
    coding, coded = code_bytes(bytes(10**6))
    assert coding == "lzma"
    for size in (0, 999_999, 1_000_001):
        with pytest.raises(DamagedCodeError):
            read_values(coding, coded, size, 1)
    with pytest.raises(DamagedCodeError):
        read_values(coding, coded[:-1], 10**6, 1)


def test_what_a_code_announces_of_itself_is_bounded():
    many = 2**32 - 1
    for data in (
        struct.pack("<III", 1, many, 0),  # codebooks
        struct.pack("<III", 4, 1, 0) + struct.pack("<H", 0) + struct.pack("<BHII", 1, 0, many, 0),  # runs
        struct.pack("<III", 4, 1, 0) + struct.pack("<H", 0) + struct.pack("<BHII", 1, 0, 0, many),  # places
    ):
        with pytest.raises(DamagedCodeError):
            read_values("codebook", data, 16, 4)
