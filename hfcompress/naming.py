"""Many names in one line: those of layers as one, and of many the first few."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

_NUMBER = re.compile(r"\.(\d+)\.")


def first_few(texts: Collection[str], most: int = 3) -> str:
    """Return texts as one line, of many the first few and how many more there are; those of a set in order.

    Example:
        >>> first_few(["a", "b", "c", "d", "e"])
        'a, b, c and 2 more'
    """
    found = sorted(texts) if isinstance(texts, set) else list(texts)
    rest = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + rest


def brief_names(names: Sequence[str], most: int = 3) -> str:
    """Return names as one line: those that differ in their layer's number alone as one, and of many the first few.

    Example:
        >>> brief_names(["layer.0.query", "layer.2.query", "pooler"])
        'layer.{0,2}.query, pooler'
    """
    numbers: dict[str, list[str]] = {}
    for name in names:
        number = _NUMBER.search(name)
        form = name if number is None else f"{name[: number.start()]}.{{}}.{name[number.end() :]}"
        numbers.setdefault(form, []).extend([number[1]] if number else [])
    shown = [
        form.format(",".join(found) if len(found) < 2 else f"{{{','.join(found)}}}") for form, found in numbers.items()
    ]
    return first_few(shown, most)
