"""Values that change over training: a loss's weight or temperature, from a start to an end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt
from pydantic import Discriminator, FiniteFloat, Tag

from hfcompress.config import checked_by, option
from hfcompress.errors import Fault, RequestError


@dataclass
class Schedule:
    """A value that moves from `start` to `end` over the whole training.

    With `t` from 0 to 1 over training: linear `start + (end − start) · t`,
    cosine `end + (start − end) · (1 + cos πt) / 2`, constant `start`.
    """

    start: Annotated[FiniteFloat, Ge(0)] = option(help="value at the first step")
    end: Annotated[FiniteFloat, Ge(0)] = option(help="value at the end of the training")
    schedule: Literal["linear", "cosine", "constant"] = option("linear", help="how it gets from start to end")

    def at(self, progress: float) -> float:
        """Return the value after a share of the training, from 0 to 1."""
        if self.schedule == "constant":
            return self.start
        if self.schedule == "cosine":
            return self.end + (self.start - self.end) * (1 + math.cos(math.pi * progress)) / 2
        return self.start + (self.end - self.start) * progress


def value_at(value: float | Schedule, progress: float) -> float:
    """Return a number as it is, and a schedule's value after a share of the training."""
    return value.at(progress) if isinstance(value, Schedule) else value


def largest(value: float | Schedule) -> float:
    """Return the largest value that a number or a schedule takes."""
    return max(value_at(value, 0), value_at(value, 1))


def _check_above_zero(schedule: Schedule) -> None:
    if min(schedule.at(0), schedule.at(1)) <= 0:
        raise RequestError(Fault("", f"must stay above 0, got {schedule.start:g} to {schedule.end:g}."))


_NUMBER, _SCHEDULE = "float", "dict[str, Any]"  # as types are called: faults leave these out of a field's path


def _kind(value: Any) -> str:
    """Tell a schedule from a number, so that only the one that was meant says what is wrong."""
    return _SCHEDULE if isinstance(value, Mapping | Schedule) else _NUMBER


NotNegative = Annotated[
    Annotated[FiniteFloat, Ge(0), Tag(_NUMBER)] | Annotated[Schedule, Tag(_SCHEDULE)],
    Discriminator(_kind),
]
"""A number from 0 up, or a schedule of such numbers."""

Positive = Annotated[
    Annotated[FiniteFloat, Gt(0), Tag(_NUMBER)] | Annotated[Schedule, checked_by(_check_above_zero), Tag(_SCHEDULE)],
    Discriminator(_kind),
]
"""A number above 0, or a schedule of such numbers."""
