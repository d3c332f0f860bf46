"""Pieces of tensors as few bytes: values that recur by codebook and indices, all others by planes of bytes."""

from __future__ import annotations

import lzma
import struct

import numpy as np

from hfcompress.clustering.container.dictionary import Shared, find_shared
from hfcompress.clustering.container.streams import BYTE, Reader, read_stream, stream_bytes, write_stream
from hfcompress.clustering.huffman import DamagedCodeError

_LONGEST_RUN = 255
"""Zeros that one number of a run stands for; this number itself says that the run goes on."""

_COMMON = 0.4
"""Share of a symbol below which lengths of its runs never save anything worth the time."""

_MEMORY = 96 * 2**20
"""What decompressing with LZMA may take at most."""


def code_bytes(data: bytes) -> tuple[str, bytes]:
    """Return text and the like as few bytes, and the name of their coding."""
    packed = lzma.compress(data, preset=6)
    return ("lzma", packed) if len(packed) < len(data) else ("planes", write_planes(np.frombuffer(data, np.uint8)))


def code_values(values: np.ndarray, row: int) -> tuple[str, bytes]:
    """Return the numbers of a tensor as few bytes, and the name of their coding.

    Args:
        values: Their bits as unsigned integers, `(count,)`.
        row: How many numbers a row of the tensor has.
    """
    shared = find_shared(values, row)
    if shared is not None:
        coded = write_codebook(shared, values.dtype.itemsize)
        if len(coded) < _planes_bytes(values):
            return "codebook", coded
    return "planes", write_planes(values)


def read_values(coding: str, data: bytes, size: int, word: int) -> bytes:
    """Return what was coded.

    Args:
        coding: How.
        data: The coded bytes.
        size: How many bytes come out; memory is taken for a small multiple of that.
        word: Bytes of a number.

    Raises:
        DamagedCodeError: No encoder wrote this.
    """
    if coding == "lzma":
        return _read_lzma(data, size)
    reader = Reader(data)
    if coding == "planes":
        values = _read_planes(reader, size // word, word)
    elif coding == "codebook":
        values = _read_codebook(reader, size // word, word)
    else:
        raise DamagedCodeError(f"there is no coding '{coding}'")
    reader.finish()
    return values.tobytes()


def _read_lzma(data: bytes, size: int) -> bytes:
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)
    try:
        out = decompressor.decompress(data, max_length=size)
        if len(out) == size and not decompressor.eof:  # its end is read when more is asked for
            more = decompressor.decompress(b"", max_length=1)
            if more:
                raise DamagedCodeError("more comes out than was announced")
    except (lzma.LZMAError, MemoryError, EOFError) as error:
        raise DamagedCodeError(str(error)) from None
    if len(out) != size or not decompressor.eof or any(decompressor.unused_data):
        raise DamagedCodeError("another number of bytes comes out than was announced")
    return out


def _planes(values: np.ndarray) -> list[np.ndarray]:
    """Return the bytes of all numbers, the lowest first, `(count,)` each.

    Numbers of two and four bytes are turned by one bit, so that the exponent of bfloat16 and float32 fills a byte.
    """
    word = values.dtype.itemsize
    turned = (values << 1) | (values >> (8 * word - 1)) if word in (2, 4) else values
    as_bytes = np.ascontiguousarray(turned.astype(f"<u{word}")).view(np.uint8).reshape(-1, word)
    return [as_bytes[:, place] for place in range(word)]


def _planes_bytes(values: np.ndarray) -> int:
    return sum(stream_bytes(np.bincount(plane, minlength=BYTE)) for plane in _planes(values))


def write_planes(values: np.ndarray) -> bytes:
    """Return numbers as one stream for each of their bytes.

    Args:
        values: Unsigned integers, `(count,)`.
    """
    return b"".join(write_stream(plane, BYTE) for plane in _planes(values))


def _read_planes(reader: Reader, count: int, word: int) -> np.ndarray:
    as_bytes = np.empty((count, word), dtype=np.uint8)
    for place in range(word):
        as_bytes[:, place] = read_stream(reader, count, BYTE)
    turned = as_bytes.reshape(-1).view(f"<u{word}")
    return (turned >> 1) | (turned << (8 * word - 1)) if word in (2, 4) else turned


def write_codebook(shared: Shared, word: int) -> bytes:
    """Return numbers as codebooks, the places in them, and what stands in none.

    Args:
        shared: What was found.
        word: Bytes of a number.
    """
    sizes = np.array([len(book) for book in shared.books], dtype="<u2")
    alphabet = int(sizes.max()) + 1
    return b"".join(
        [
            struct.pack("<III", shared.group, len(sizes), len(shared.others)),
            sizes.tobytes(),
            np.concatenate(shared.books).astype(f"<u{word}").tobytes(),
            _write_places(shared.places, alphabet),
            write_planes(shared.others) if len(shared.others) else b"",
        ]
    )


def _read_codebook(reader: Reader, count: int, word: int) -> np.ndarray:
    group, groups, others = reader.numbers("III")
    if not group or not groups or groups != -(-count // group) or others > count:
        raise DamagedCodeError("the codebooks are not as many as the groups")
    sizes = reader.array(groups, "<u2").astype(np.int64)
    books = reader.array(int(sizes.sum()), f"<u{word}")
    alphabet = int(sizes.max()) + 1
    places = _read_places(reader, count, alphabet)
    escaped = places == alphabet - 1
    limits, firsts = sizes, np.cumsum(sizes) - sizes
    if groups > 1:
        limits, firsts = (np.repeat(one, group)[:count] for one in (limits, firsts))
    if (~escaped & (places >= limits)).any() or int(escaped.sum()) != others:
        raise DamagedCodeError("there are places outside the codebooks")
    values = np.empty(count, dtype=f"<u{word}")
    values[~escaped] = books[(places + firsts)[~escaped]]
    if others:
        values[escaped] = _read_planes(reader, others, word)
    return values


def _write_places(places: np.ndarray, alphabet: int) -> bytes:
    """Write symbols one by one, or the commonest of them by the lengths of its runs, whichever is less."""
    counts = np.bincount(places, minlength=alphabet)
    common = int(counts.argmax())
    if counts[common] < _COMMON * len(places):
        return b"\0" + write_stream(places, alphabet)
    kept = np.flatnonzero(places != common)
    gaps = _gaps(kept)
    rest = counts.copy()
    rest[common] = 0
    by_runs = stream_bytes(np.bincount(gaps, minlength=BYTE)) + stream_bytes(rest) + 11
    if by_runs >= stream_bytes(counts):
        return b"\0" + write_stream(places, alphabet)
    return b"".join(
        [
            struct.pack("<BHII", 1, common, len(gaps), len(kept)),
            write_stream(gaps, BYTE),
            write_stream(places[kept], alphabet),
        ]
    )


def _gaps(kept: np.ndarray) -> np.ndarray:
    """Return by how much each place lies behind the one before it; a long way takes several numbers.

    Args:
        kept: Places in order, `(places,)`.

    Returns:
        `(numbers,)`: one below 255 passes that many symbols and ends at a place, 255 passes as many and goes on.
    """
    lengths = np.diff(kept, prepend=-1) - 1
    whole = lengths // _LONGEST_RUN
    numbers = np.full(int(whole.sum()) + len(kept), _LONGEST_RUN, dtype=np.uint16)
    numbers[np.cumsum(whole + 1) - 1] = lengths % _LONGEST_RUN
    return numbers


def _read_places(reader: Reader, count: int, alphabet: int) -> np.ndarray:
    (runs,) = reader.numbers("B")
    if not runs:
        return read_stream(reader, count, alphabet)
    common, numbers, kept = reader.numbers("HII")
    if common >= alphabet or kept > count or numbers > kept + count // _LONGEST_RUN:
        raise DamagedCodeError("there are more runs than symbols")
    gaps = read_stream(reader, numbers, BYTE).astype(np.int64)
    ends = np.cumsum(gaps + (gaps < _LONGEST_RUN))[gaps < _LONGEST_RUN] - 1
    if len(ends) != kept or (kept and ends[-1] >= count):
        raise DamagedCodeError("the runs are longer than what they are runs of")
    places = np.full(count, common, dtype=np.uint16)
    places[ends] = read_stream(reader, kept, alphabet)
    return places
