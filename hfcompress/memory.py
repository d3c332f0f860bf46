"""Giving memory back between the parts of long work, each of which holds a model's weights once or twice."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_MMAP_THRESHOLD = -3
"""The number that glibc's `mallopt` has for the size from which on memory is asked of the system piece by piece."""


@contextmanager
def returning() -> Iterator[None]:
    """Return what is freed at once while the block runs, from a megabyte on; costs some percent of time.

    glibc raises that size to what was freed last, up to 32 MB; then activations lie between what stays, and memory that
    is free is not given back. Afterwards the size is 32 MB.
    """
    mallopt = getattr(_libc(), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 2**20)
    try:
        yield
    finally:
        if mallopt is not None:
            mallopt(_MMAP_THRESHOLD, 2**25)


def give_back() -> None:
    """Return freed memory to the system: glibc keeps what was allocated in small pieces, hundreds of megabytes here."""
    gc.collect()
    trim = getattr(_libc(), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _libc() -> Any:
    """Return the C library on Linux; musl lacks what is asked of it here."""
    return ctypes.CDLL(None) if sys.platform == "linux" else None
