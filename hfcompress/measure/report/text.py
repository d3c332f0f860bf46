"""Numbers and foreign texts as a reader sees them; whatever is missing or not finite is said to be so."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping
from typing import Any

_SHARES = ("accuracy", "f1", "precision", "recall", "exact_match", "rouge")
_HIDDEN = {"Cc", "Cs", "Co", "Cn"}
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_TURNING = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)])  # would turn the rest of a sentence around


def clean(value: Any, limit: int = 200) -> str:
    """Return a foreign value as one line of at most `limit` characters, without control characters.

    Args:
        value: A text, or anything that JSON can hold.
        limit: Where it is cut; a cut text ends in an ellipsis.
    """
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = text[: 4 * limit].translate(_TURNING)  # a text of megabytes is not looked through
    text = "".join("�" if unicodedata.category(c) in _HIDDEN and not c.isspace() else c for c in text)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def shorten(value: Any, limit: int) -> str:
    """Return a foreign value as one line cut in the middle, so that names that begin alike stay apart."""
    text = clean(value)
    return text if len(text) <= limit else f"{text[: limit - limit // 2 - 1].rstrip()}…{text[-(limit // 2) :].lstrip()}"


def number(values: Any, *path: str) -> float | None:
    """Follow keys into nested mappings and return the finite number there, or None where there is none."""
    for key in path:
        values = values.get(key) if isinstance(values, Mapping) else None
    if isinstance(values, bool) or not isinstance(values, (int, float)):
        return None
    return float(values) if math.isfinite(values) else None


def pair(values: Any, *path: str) -> tuple[float, float] | None:
    """Follow keys like `number` and return the two finite numbers there, or None."""
    for key in path:
        values = values.get(key) if isinstance(values, Mapping) else None
    if not isinstance(values, (list, tuple)) or len(values) != 2:
        return None
    low, high = number({"": values[0]}, ""), number({"": values[1]}, "")
    return None if low is None or high is None else (low, high)


def is_share(metric: str) -> bool:
    """Say whether a metric is a part of one, shown in percent; correlations and losses are not."""
    return any(part in metric.lower() for part in _SHARES)


def of_metric(metric: str, value: float | None) -> str:
    """Return a metric's value as shown, without a unit: 83.7 of accuracy 0.837, 0.837 of a correlation."""
    if value is None:
        return "not defined"
    return f"{100 * value:.1f}" if is_share(metric) else plain(value)


def change_of(metric: str, value: float) -> str:
    """Return a difference in a metric with its sign: points for shares."""
    return minus(f"{100 * value:+.1f}" if is_share(metric) else f"{value:+.3f}")


def plain(value: float) -> str:
    """Return a number with three decimals, or with fewer where it is large."""
    size = abs(value)
    form = ".3f" if size < 10 else ",.1f" if size < 1e3 else ",.0f" if size < 1e6 else ".3g"
    return minus(format(value, form))


def scientific(value: float, digits: int = 2) -> str:
    """Return a number with a few digits, a very small or large one times a power of ten."""
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return minus(f"{float(f'{value:.{digits}g}'):g}")
    mantissa, power = f"{value:.{digits - 1}e}".split("e")
    raised = str(int(power)).translate(_RAISED)
    return f"10{raised}" if mantissa == "1" else f"{minus(mantissa)} × 10{raised}"


def minus(text: str) -> str:
    """Set minus signs as such."""
    return text.replace("-", "−")


def count(value: float) -> str:
    """Return a number in billions, millions or thousands, or whole where it is less than a thousand."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f}"


def megabytes(value: float) -> str:
    """Return bytes in MB (10⁶)."""
    size = value / 1e6
    return f"{size:,.0f}" if size >= 100 else f"{size:.1f}" if size >= 1 else f"{size:.3f}"


def milliseconds(value: float) -> str:
    """Return milliseconds with three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def times(ratio: float) -> str:
    """Return a ratio to the first model's value."""
    return f"× {ratio:.2f}" if ratio >= 0.1 else f"× {ratio:.3f}"


def duration(seconds: float) -> str:
    """Return seconds, as minutes or hours where these are many."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def setting(value: Mapping[str, Any], task: str) -> str:
    """Name what was timed: batch, length and threads."""
    length = number(value, "length")
    unit = "pixels" if task.startswith("image") else "tokens"
    threads = number(value, "threads")
    parts = [f"batch {number(value, 'batch_size') or 1:.0f}"]
    parts += [f"{length:.0f} {unit}"] if length else []
    parts += [f"{threads:.0f} thread{'s' if threads != 1 else ''}"] if threads else []
    return " · ".join(parts)
