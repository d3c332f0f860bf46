"""Numbers that only some values will do for, in the options of the methods and of an export."""

from __future__ import annotations

from typing import Annotated

from hfcompress.config import checked_by
from hfcompress.errors import Fault, RequestError

BLOCK_SIZES = (16, 32, 64, 128, 256)
"""What ONNX Runtime's operators for blocks of weights take."""


def _check_block_size(value: int) -> None:
    if value not in BLOCK_SIZES:
        raise RequestError(Fault("block_size", f"is {value}.", f"Allowed: {', '.join(map(str, BLOCK_SIZES))}."))


def _check_bits(value: int) -> None:
    if value not in (4, 8):
        raise RequestError(Fault("embedding_bits", f"is {value}.", "Allowed: 4, 8."))


BlockSize = Annotated[int, checked_by(_check_block_size)]
EmbeddingBits = Annotated[int, checked_by(_check_bits)]
