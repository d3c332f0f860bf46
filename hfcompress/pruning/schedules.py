"""How sparse a model is at each step of its training."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Interval

from hfcompress.config import checked_by, gather, option
from hfcompress.errors import Fault, RequestError
from hfcompress.training.alteration import Length

Shape = Literal["cubic", "linear", "constant", "one_shot"]

_EPOCHS = re.compile(r"(\d+(?:\.\d+)?) ?(?:ep|epochs?)")
_FORMS = "Allowed: whole steps (500), a share of the training (0.1), or epochs ('1.5ep')."


def read_span(value: float | str) -> tuple[float, Literal["steps", "share", "epochs"]]:
    """Read a part of the training: whole numbers are steps, those between 0 and 1 a share, `1.5ep` epochs.

    Example:
        >>> read_span(500), read_span("0.1"), read_span("1.5ep")
        ((500, 'steps'), (0.1, 'share'), (1.5, 'epochs'))

    Raises:
        RequestError: It is none of these.
    """
    text = str(value).strip()
    epochs = _EPOCHS.fullmatch(text)
    if epochs:
        return float(epochs[1]), "epochs"
    if text.isdecimal():
        return int(text), "steps"
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not 0 <= number < 1:
        raise RequestError(Fault("", f"is not a part of the training: got {value!r}.", _FORMS))
    return number, "share"


def span_steps(value: float | str, length: Length) -> int:
    """Return how many optimizer steps a part of the training has, rounded."""
    number, unit = read_span(value)
    return round(number * {"steps": 1, "share": length.steps, "epochs": length.steps_per_epoch}[unit])


Span = Annotated[int | float | str, checked_by(read_span)]
"""A part of the training: steps (500), a share (0.1) or epochs ("1.5ep")."""


@dataclass(frozen=True)
class Course:
    """A schedule laid over a training of known length; steps are counted from 0.

    Args:
        shape: How the sparsity grows.
        initial: Sparsity before `start`.
        final: Sparsity in the end.
        start: The first step that is pruned.
        steps: How many steps the pruning takes.
        every: Steps between two changes of the masks.
    """

    shape: Shape
    initial: float
    final: float
    start: int
    steps: int
    every: int = 1

    def updates(self, step: int) -> bool:
        """Say whether the masks are decided anew at a step: every so often, and when the final sparsity is reached."""
        place = step - self.start
        if self.shape == "one_shot":
            return place == 0
        return 0 <= place < self.steps and (place % self.every == 0 or place == self.steps - 1)

    def last_update(self, step: int) -> int | None:
        """Return when the masks of a step were decided; None before the pruning begins."""
        place = step - self.start
        if place < 0:
            return None
        if self.shape == "one_shot":
            return self.start
        last = self.steps - 1
        return self.start + (last if place >= last else place - place % self.every)

    def at(self, step: int) -> float:
        """Return the sparsity at a step; between two changes of the masks it stays what it was.

        With `n` steps of pruning, of which `t` are reached, the present one included: cubic
        `s_f + (s_i − s_f)(1 − t/n)³` (Zhu & Gupta 2017, "To prune, or not to prune", equation 1), linear
        `s_f + (s_i − s_f)(1 − t/n)`, constant and one_shot `s_f`.
        """
        decided = self.last_update(step)
        if decided is None:
            return self.initial
        if self.shape in ("constant", "one_shot"):
            return self.final
        left = 1 - (decided - self.start + 1) / self.steps
        return self.final + (self.initial - self.final) * left ** (3 if self.shape == "cubic" else 1)


@dataclass
class SparsitySchedule:
    """How the share of masked weights grows over the training; a base of the configs of pruning methods."""

    sparsity: Annotated[float, Interval(ge=0, lt=1)] | None = option(
        None, help="share of the weights that is set to zero, from 0 up"
    )
    initial_sparsity: Annotated[float, Interval(ge=0, lt=1)] = option(
        0.0, help="with training: share that is masked during the warm-up"
    )
    schedule: Shape = option(
        "cubic",
        help="with training: how the sparsity grows: cubic, linear, constant (all at once, chosen anew as the weights "
        "change), one_shot (all at once, chosen once)",
    )
    warmup: Span = option(
        0.1, help="with training: how long to train before pruning: steps (500), a share (0.1) or epochs (1.5ep)"
    )
    cooldown: Span = option(0.2, help="with training: how long to train at the final sparsity, given likewise")
    every: Annotated[int, Ge(1)] = option(10, help="with training: steps between two choices of what is masked")

    def check(self) -> None:
        """Look across the fields.

        Raises:
            RequestError: There is no sparsity, it would fall, or no part of the training is left to prune in.
        """
        if self.final is None:
            raise RequestError(Fault("sparsity", "is missing.", "Give a share from 0 up, such as 0.5."))
        gather(self._check_growth, self._check_shares)

    @property
    def final(self) -> float | None:
        """The sparsity in the end; None where it is not known beforehand."""
        return self.sparsity

    def _check_growth(self) -> None:
        final = self.final or 0
        if self.initial_sparsity > final:
            problem = f"is {self.initial_sparsity:g}, above the final sparsity {final:g}."
            raise RequestError(Fault("initial_sparsity", problem, "Sparsity only grows: give at most the final one."))

    def _check_shares(self) -> None:
        """Refuse what leaves nothing of a training of any length."""
        spans = [read_span(self.warmup), *([read_span(self.cooldown)] if self.schedule != "one_shot" else [])]
        shares = sum(number for number, unit in spans if unit == "share")
        if shares >= 1:
            problem = f"warmup and cooldown are {shares:g} of the training and leave no part of it to prune in."
            raise RequestError(Fault("warmup", problem, "Shorten them."))

    def over(self, length: Length) -> Course:
        """Lay the schedule over a training.

        Raises:
            RequestError: Warm-up and cool-down leave no step between them to prune in.
        """
        warmup, cooldown = span_steps(self.warmup, length), span_steps(self.cooldown, length)
        if self.schedule == "one_shot":  # all that follows the pruning is cool-down
            cooldown = max(0, length.steps - warmup - 1)
        left = length.steps - warmup - cooldown
        if left < 1:
            named = f"warmup ({_told(self.warmup, warmup)}) and cooldown ({_told(self.cooldown, cooldown)})"
            if self.schedule == "one_shot":
                named = f"warmup ({_told(self.warmup, warmup)})"
            problem = f"{named} leave no step to prune in: the training has {length.steps}."
            raise RequestError(Fault("warmup", problem, "Shorten them, or train longer (num_train_epochs, max_steps)."))
        return Course(self.schedule, self.initial_sparsity, self.final or 0, warmup, left, self.every)


def _told(value: float | str, steps: int) -> str:
    unit = "step" if steps == 1 else "steps"
    return f"{steps} {unit}" if read_span(value)[1] == "steps" else f"{value}: {steps} {unit}"
