"""Timings of single layers by this machine's clock, measured once and then kept in the user's cache."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants

from hfcompress import environment
from hfcompress.measure.latency import Effort, summarize, time_calls

_EFFORT = Effort(rounds=30, seconds=2.0)


def table_path() -> Path:
    """Return the file that timings are kept in, in Hugging Face's cache folder, which `HF_HOME` moves."""
    return Path(constants.HF_HOME) / "hfcompress" / "latency.json"


def time_once(what: str, calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Time calls against each other on one thread, or recall what that gave on this machine before.

    The calls take turns. Kept are the first one's median and, of the others, the median of their ratio to it, turn by
    turn: a machine that is busy for a while slows them all down alike.

    Args:
        what: What is timed, so that it is found again.
        calls: By name; the first is what the others are compared with.

    Returns:
        Milliseconds by name.
    """
    found = _recall(what, calls)
    if found is None:
        timed = summarize(time_calls(calls, _EFFORT))
        found = dict(zip(calls, [timed[0].median_ms, *(one.ratio for one in timed[1:])], strict=True))
        _keep(what, found)
    whole, *ratios = (found[name] for name in calls)
    return dict(zip(calls, [whole, *(ratio * whole for ratio in ratios)], strict=True))


def machine() -> str:
    """Return what timings depend on beside the layer: the processor, torch, and the one thread."""
    return f"{environment.hardware()['processor']}, torch {torch.__version__}, 1 thread"


def _recall(what: str, calls: Mapping[str, object]) -> dict[str, float] | None:
    """Return what is kept of exactly these calls, if it can be used."""
    found = _entries(_read(), machine()).get(what)
    if not isinstance(found, dict) or found.keys() != calls.keys():
        return None
    if not all(type(one) in (int, float) and 0 < one < float("inf") for one in found.values()):
        return None
    return {name: float(one) for name, one in found.items()}


def _keep(what: str, found: Mapping[str, float]) -> None:
    """Write timings down, whole or not at all; where the cache cannot be written, they are measured again next time."""
    table, here, path = _read(), machine(), table_path()
    table[here] = {**_entries(table, here), what: {name: float(f"{one:.5g}") for name, one in found.items()}}
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)


def _read() -> dict[str, Any]:
    """Return the table; an empty one where there is none, or none that can be read."""
    try:
        table = json.loads(table_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}


def _entries(table: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = table.get(name)
    return found if isinstance(found, dict) else {}
