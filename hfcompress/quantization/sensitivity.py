"""Sensitivity: the fewest nodes to leave in float so that an int8 file keeps its quality."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hfcompress.errors import ExportError


@dataclass(frozen=True)
class Try:
    """One choice of nodes that was measured.

    Args:
        count: How many of the most sensitive nodes stayed in float.
        quality: The main metric on the selection rows.
    """

    count: int
    quality: float


@dataclass(frozen=True)
class Choice:
    """Which nodes stay in float, and what quality that keeps.

    Args:
        kept_float: Names of the nodes, the most sensitive first.
        drop_selected: What the metric loses on the rows that the choice was made on.
        drop_confirmed: What it loses on the other rows.
        tries: What was measured on the way.
        confirmations: How many choices the other rows were asked about: with 1 nothing was chosen on them.
    """

    kept_float: tuple[str, ...]
    drop_selected: float
    drop_confirmed: float
    tries: tuple[Try, ...]
    confirmations: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Return it for the record of an export."""
        return asdict(self)


class DropError(ExportError):
    """No choice of nodes keeps the quality that was asked for; `best` is the nearest one."""

    def __init__(self, message: str, best: Choice) -> None:
        super().__init__(message)
        self.best = best


def relative_error(reference: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    """Return how far outputs are from the reference's: the root of their mean squared difference over its variance.

    Args:
        reference: Outputs of the float graph, one array a batch.
        found: Outputs of the other graph on the same batches.

    Example:
        >>> relative_error([np.array([1.0, -1.0])], [np.array([1.0, 0.0])])
        0.7071067811865476
    """
    ours = np.concatenate([np.ravel(part) for part in reference]).astype(np.float64)
    theirs = np.concatenate([np.ravel(part) for part in found]).astype(np.float64)
    spread = float(np.var(ours)) or 1.0
    return float(np.sqrt(np.mean((ours - theirs) ** 2) / spread))


def rank_nodes(
    groups: Mapping[str, Collection[str]],
    make: Callable[[Collection[str]], Path],
    answers: Callable[[Path], Sequence[np.ndarray]],
    reference: Sequence[np.ndarray],
) -> list[str]:
    """Order nodes by what int8 costs in them alone: all others in float, outputs against the float graph's.

    Args:
        groups: For each node, or group of nodes, the names of the nodes in it.
        make: Writes the int8 file with the named nodes left in float and returns it.
        answers: Returns a file's outputs on unlabelled calibration rows, none of which is held out.
        reference: What the float graph answers on them.

    Returns:
        The names of the groups, the most sensitive first; equal ones in their order.
    """
    every = [name for group in groups.values() for name in group]
    errors = {}
    for name, group in groups.items():
        others = [other for other in every if other not in set(group)]
        errors[name] = relative_error(reference, answers(make(others)))
    return sorted(groups, key=lambda name: -errors[name])


def fewest_float_nodes(
    rank: Callable[[], Sequence[str]],
    selected: Callable[[Collection[str]], float],
    confirmed: Callable[[Collection[str]], float],
    float_quality: tuple[float, float],
    max_drop: float,
    what: str = "nodes in float",
) -> Choice:
    """Find the shortest prefix of a ranking that has to stay in float, by bisection.

    Where quality grows with each node left in float, which noise may prevent, the prefix is the shortest there is; it
    always keeps the quality. What is chosen on one half of the rows is confirmed on the other; where that fails, the
    prefix is doubled until both halves keep the quality.

    Args:
        rank: Returns names of nodes, the most sensitive first; asked only where none of them in float loses too much.
        selected: Quality on the selection rows with the named nodes in float; higher is better.
        confirmed: The same on the other rows; asked only for what the selection rows allow.
        float_quality: What the float graph reaches on the selection rows and on the others.
        max_drop: What the metric may lose.
        what: What the ranking holds, for messages.

    Returns:
        The choice.

    Raises:
        DropError: The drop is larger on the selection rows, or on the others, even with all ranked nodes in float;
            `best` holds the point that came nearest.
    """
    tries: dict[int, float] = {}
    ranked: Sequence[str] = ()

    def drop(count: int) -> float:
        if count not in tries:
            tries[count] = selected(ranked[:count])
        return float_quality[0] - tries[count]

    def choice(count: int, confirmations: int = 1) -> Choice:
        lost, here = float_quality[1] - confirmed(ranked[:count]), drop(count)
        measured = tuple(Try(number, quality) for number, quality in sorted(tries.items()))
        return Choice(tuple(ranked[:count]), here, lost, measured, confirmations)

    if drop(0) > max_drop:
        ranked = rank()
    enough = _shortest(lambda count: drop(count) <= max_drop, len(ranked))
    if enough is None:
        best = choice(min(tries, key=lambda count: (drop(count), count)))
        raise DropError(_message(max_drop, best, "the selection rows", what), best)
    found = choice(enough)
    while max(found.drop_selected, found.drop_confirmed) > max_drop:
        ranked = ranked or rank()
        if enough == len(ranked):
            raise DropError(_message(max_drop, found, "the rows that confirm it", what), found)
        enough = min(len(ranked), max(1, 2 * enough))
        found = choice(enough, found.confirmations + 1)
    return found


def _shortest(keeps: Callable[[int], bool], most: int) -> int | None:
    """Return the smallest number up to `most` that keeps the quality, by doubling and bisection; None without."""
    too_few, enough = -1, 0
    while not keeps(enough):  # 0, 1, 2, 4, …: few are needed as a rule, and fewer are quicker to find
        if enough == most:
            return None
        too_few, enough = enough, min(most, max(1, 2 * enough))
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if keeps(middle) else (middle, enough)
    return enough


def _message(max_drop: float, best: Choice, rows: str, what: str) -> str:
    return (
        f"--max-drop {max_drop:g} cannot be met on {rows}: at best the metric loses {best.drop_selected:.4f} on the "
        f"selection rows and {best.drop_confirmed:.4f} on the others, with {len(best.kept_float)} {what}. "
        "Allow a larger drop, give more validation rows, or leave --max-drop out."
    )
