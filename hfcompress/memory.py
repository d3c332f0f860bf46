"""Giving memory back between the parts of long work, each of which holds a model's weights once or twice."""

from __future__ import annotations

import ctypes
import gc
import sys


def give_back() -> None:
    """Return freed memory to the system: glibc keeps what was allocated in small pieces, hundreds of megabytes here."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
