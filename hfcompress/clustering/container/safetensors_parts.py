"""A safetensors file as the parts that it consists of: its header, and tensor after tensor, byte for byte."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hfcompress.errors import Fault, ModelError

_LONGEST_HEADER = 100_000_000
"""As in the safetensors library."""


@dataclass(frozen=True)
class Part:
    """Some bytes of a file.

    Args:
        name: The tensor's name, or what else it is.
        start: Where they begin.
        size: How many there are.
        word: Bytes of a number; 0 where there are no numbers.
        row: Numbers of a row of the tensor.
    """

    name: str
    start: int
    size: int
    word: int = 0
    row: int = 1


def parts_of(path: Path) -> list[Part]:
    """Return the parts of a safetensors file in the order in which they stand there.

    Raises:
        ModelError: It is not a whole safetensors file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        header = file.read(length) if length <= min(size - 8, _LONGEST_HEADER) else b""
    try:
        tensors = [_part(name, entry, 8 + length) for name, entry in json.loads(header).items() if _is_tensor(name)]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise _broken(path) from None
    tensors.sort(key=lambda part: (part.start, part.size))
    parts = [Part("header", 0, 8 + length), *tensors]
    ends = [part.start + part.size for part in parts]
    if [*(part.start for part in parts), size] != [0, *ends] or min(part.size for part in parts) < 0:
        raise _broken(path)
    return parts


def _is_tensor(name: str) -> bool:
    return name != "__metadata__"


def _part(name: str, entry: Any, offset: int) -> Part:
    start, end = map(int, entry["data_offsets"])
    shape = [int(width) for width in entry["shape"]]
    count = math.prod(shape)
    word = (end - start) // count if count else 1
    fits = word in (1, 2, 4, 8) and word * count == end - start  # some numbers have less than a byte
    return Part(name, offset + start, end - start, word if fits else 1, math.prod(shape[1:]) if fits and count else 1)


def _broken(path: Path) -> ModelError:
    return ModelError(Fault(str(path), "is not a whole safetensors file.", "Save or download the checkpoint again."))
