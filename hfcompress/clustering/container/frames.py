"""Frames: what a container consists of, each with a short description, its bytes and a checksum.

A file is `MAGIC`, the version (uint32), and frames up to its end. A frame is the length of its description (uint32), of
its bytes (uint64), a CRC-32 of both (uint32), the description in JSON, the bytes. All numbers have their lowest byte
first. The frames come in this order:

    begin                       how many files and bytes come out in all
    bundle                      small files one after another, with names and sizes
    file, piece, piece, close   a larger file, its parts, its digest
    end                         digest of all that stands before

A piece says how many bytes come out of it, and in which coding its own are. Nothing in a file makes a reader take more
memory than a small multiple of `PIECE`, or write more than `EXPANSION` times the file's own size.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from dataclasses import dataclass
from typing import Any, BinaryIO

from hfcompress.clustering.huffman import DamagedCodeError

MAGIC = b"\x89HFZ\r\n\x1a\n"
"""As in PNG: neither text nor ASCII, and another one once line ends were translated on the way."""

VERSION = 1

PIECE = 16 * 2**20
"""Bytes that come out of a frame at most."""

EXPANSION = 4096
"""How many bytes may come out of each that a frame has; shorter frames are padded with zeros."""

_HEAD = struct.Struct("<IQI")
_DESCRIPTION = 2**20
_LONGEST_NAME = 1024
"""Bytes of a file's name with the folders before it; macOS takes no more."""
_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(1, 10))}
_SLACK = 2**20
"""Bytes that a frame may have beyond those that come out of it, for tables."""


def is_safe(name: Any) -> bool:
    """Say whether a file's name stays inside its folder, on every system."""
    if not isinstance(name, str) or not name.isprintable() or any(mark in name for mark in '\\:*?"<>|'):
        return False
    return len(name.encode()) <= _LONGEST_NAME and all(map(_is_safe_part, name.split("/")))


def _is_safe_part(part: str) -> bool:
    if part.endswith((".", " ")) or part.partition(".")[0].rstrip().upper() in _DEVICES:  # Windows takes neither
        return False
    return bool(part) and len(part.encode()) < 256


@dataclass(frozen=True)
class Frame:
    """One frame.

    Args:
        fields: Its description; `kind` is one of those above.
        data: Its bytes.
    """

    fields: dict[str, Any]
    data: bytes

    @property
    def kind(self) -> str:
        """What kind of frame it is."""
        return str(self.fields.get("kind"))

    def number(self, name: str, most: int, least: int = 0) -> int:
        """Return one of the description's numbers.

        Raises:
            DamagedCodeError: It is missing, not a whole number, or out of range.
        """
        value = self.fields.get(name)
        if type(value) is not int or not least <= value <= most:
            raise DamagedCodeError(f"'{name}' is {value!r}, where {least} to {most} is allowed")
        return value

    def text(self, name: str) -> str:
        """Return one of the description's texts.

        Raises:
            DamagedCodeError: It is missing or not text.
        """
        value = self.fields.get(name)
        if not isinstance(value, str):
            raise DamagedCodeError(f"'{name}' is {value!r}, where a text belongs")
        return value


class FrameWriter:
    """Writes a container.

    Args:
        file: Open for writing, empty.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._digest = file, hashlib.blake2b(digest_size=32)
        self._put(MAGIC + struct.pack("<I", VERSION))

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)

    def write(self, kind: str, data: bytes = b"", **fields: Any) -> int:
        """Write a frame; return how many bytes it takes."""
        data += bytes(max(0, -(-fields.get("bytes", 0) // EXPANSION) - len(data)) if kind != "begin" else 0)
        text = json.dumps({"kind": kind, **fields}, separators=(",", ":"), ensure_ascii=False).encode()
        checksum = zlib.crc32(data, zlib.crc32(text))
        self._put(_HEAD.pack(len(text), len(data), checksum) + text)
        self._put(data)
        return _HEAD.size + len(text) + len(data)

    def end(self) -> None:
        """Write the last frame."""
        self.write("end", digest=self._digest.hexdigest())


class FrameReader:
    """Reads a container.

    Args:
        file: Open for reading, at its beginning.
        size: How many bytes it has.

    Raises:
        DamagedCodeError: It does not begin as one.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._left = file, size
        self._digest = hashlib.blake2b(digest_size=32)
        if size < len(MAGIC) + 4 or self._take(len(MAGIC)) != MAGIC:
            raise DamagedCodeError("it is not a .hfz file")
        (self.version,) = struct.unpack("<I", self._take(4))

    def _take(self, count: int) -> bytes:
        data = self._file.read(count) if count <= self._left else b""
        if len(data) != count:
            raise DamagedCodeError("the file is cut short")
        self._left -= count
        self._digest.update(data)
        return data

    def read(self) -> Frame:
        """Return the next frame; of the last one the digest is compared, too.

        Raises:
            DamagedCodeError: It is cut short or damaged, or something follows the last.
        """
        so_far = self._digest.hexdigest()
        described, size, checksum = _HEAD.unpack(self._take(_HEAD.size))
        if described > _DESCRIPTION or size > PIECE + _SLACK:
            raise DamagedCodeError("it announces more than a frame may have")
        text, data = self._take(described), self._take(size)
        if zlib.crc32(data, zlib.crc32(text)) != checksum:
            raise DamagedCodeError("its checksum is another one")
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            raise DamagedCodeError("its description is not JSON")
        frame = Frame(fields, data)
        if frame.kind not in ("begin", "end") and frame.number("bytes", PIECE) > EXPANSION * size:
            raise DamagedCodeError("more comes out of it than may")
        if frame.kind == "end" and (frame.fields.get("digest") != so_far or self._left):
            raise DamagedCodeError("the digest of the whole file is another one, or something follows it")
        return frame
