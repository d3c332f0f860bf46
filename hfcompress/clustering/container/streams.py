"""Streams of small symbols: coded by Huffman, as they are, or as the one symbol that they all are."""

from __future__ import annotations

import struct

import numpy as np

from hfcompress.clustering.huffman import Coded, DamagedCodeError, decode, encode, word_lengths

BYTE = 256
"""Symbols of a stream of bytes."""

_CONSTANT, _PLAIN, _HUFFMAN = range(3)
_BLOCKS = (10, 12)
"""Least and greatest binary logarithm of the symbols in a block: many blocks are read fast, and each costs a byte."""

_SIDE_BY_SIDE = 1024
"""How many blocks are enough to be read fast."""


class Reader:
    """Takes bytes from the front.

    Args:
        data: All of them.
    """

    def __init__(self, data: bytes) -> None:
        self._data, self._at = memoryview(data), 0

    def take(self, count: int) -> bytes:
        """Return the next bytes.

        Raises:
            DamagedCodeError: There are fewer.
        """
        if count > len(self._data) - self._at:
            raise DamagedCodeError(f"{count} bytes are announced where {len(self._data) - self._at} are left")
        self._at += count
        return bytes(self._data[self._at - count : self._at])

    def numbers(self, form: str) -> tuple[int, ...]:
        """Return numbers in the form that `struct` describes, lowest byte first.

        Raises:
            DamagedCodeError: There are fewer bytes.
        """
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))

    def array(self, count: int, dtype: str) -> np.ndarray:
        """Return `count` numbers of one type.

        Raises:
            DamagedCodeError: There are fewer bytes.
        """
        return np.frombuffer(self.take(count * np.dtype(dtype).itemsize), dtype=dtype)

    def finish(self) -> None:
        """Make sure that nothing but padding is left.

        Raises:
            DamagedCodeError: Something is.
        """
        if any(self._data[self._at :]):
            raise DamagedCodeError("more follows than was announced")


def stream_bytes(counts: np.ndarray) -> int:
    """Return about how many bytes a stream takes.

    Args:
        counts: How often each symbol occurs in it, `(symbols,)`.
    """
    used = np.flatnonzero(counts)
    if len(used) < 2:
        return 3
    plain = int(counts.sum()) * _plain_type(len(counts)).itemsize + 1
    if len(used) > 2**15:
        return plain
    lengths = word_lengths(counts).astype(np.int64)
    return min(plain, int((lengths * counts).sum()) // 8 + int(used[-1]) + 16)


def write_stream(symbols: np.ndarray, alphabet: int) -> bytes:
    """Return symbols as bytes, in the form that takes the fewest.

    Args:
        symbols: Each below `alphabet`, `(count,)`.
        alphabet: How many symbols there are, at most 2**16.
    """
    counts = np.bincount(symbols, minlength=alphabet)
    used = np.flatnonzero(counts)
    if len(used) < 2:
        return struct.pack("<BH", _CONSTANT, int(used[0]) if len(used) else 0)
    plain_type = _plain_type(alphabet)
    plain = len(symbols) * plain_type.itemsize + 1
    if stream_bytes(counts) < plain:
        coded = _write_huffman(symbols, counts)
        if len(coded) < plain:
            return coded
    return bytes([_PLAIN]) + symbols.astype(plain_type).tobytes()


def read_stream(reader: Reader, count: int, alphabet: int) -> np.ndarray:
    """Return the symbols of a stream, `(count,)`.

    Args:
        reader: Stands at its beginning.
        count: How many symbols there are; memory for that many may be taken.
        alphabet: How many different ones there may be.

    Raises:
        DamagedCodeError: No such stream stands there.
    """
    (form,) = reader.numbers("B")
    if form == _CONSTANT:
        symbols = np.full(count, reader.numbers("H")[0], dtype=np.uint16)
    elif form == _PLAIN:
        symbols = reader.array(count, _plain_type(alphabet).str)
    elif form == _HUFFMAN:
        symbols = _read_huffman(reader, count)
    else:
        raise DamagedCodeError(f"there is no stream of the form {form}")
    if count and int(symbols.max()) >= alphabet:
        raise DamagedCodeError(f"there are symbols beyond the {alphabet} that were announced")
    return symbols


def _plain_type(alphabet: int) -> np.dtype:
    return np.dtype("<u1") if alphabet <= BYTE else np.dtype("<u2")


def _write_huffman(symbols: np.ndarray, counts: np.ndarray) -> bytes:
    """Write the words' lengths, the blocks' sizes, the words."""
    lengths = word_lengths(counts)
    kept = int(np.flatnonzero(counts)[-1]) + 1
    exponent = int(np.clip((len(symbols) // _SIDE_BY_SIDE).bit_length(), *_BLOCKS))
    coded = encode(symbols, lengths, 1 << exponent)
    least = int(coded.sizes.min())
    extra = coded.sizes - least
    width = next(width for width in (1, 2, 4) if int(extra.max()) < 256**width)
    return b"".join(
        [
            struct.pack("<BBHBII", _HUFFMAN, exponent, kept - 1, width, least, len(coded.data)),
            lengths[:kept].tobytes(),
            extra.astype(f"<u{width}").tobytes(),
            coded.data,
        ]
    )


def _read_huffman(reader: Reader, count: int) -> np.ndarray:
    exponent, last, width, least, size = reader.numbers("BHBII")
    if exponent not in range(_BLOCKS[0], _BLOCKS[1] + 1) or width not in (1, 2, 4) or not count:
        raise DamagedCodeError("the stream's own description makes no sense")
    lengths = reader.array(last + 1, "<u1")
    extra = reader.array(-(-count >> exponent), f"<u{width}")
    return decode(Coded(extra.astype(np.int64) + least, reader.take(size)), lengths, count, 1 << exponent)
