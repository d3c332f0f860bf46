"""The one exception tree: what is wrong, what was given, what is allowed, what to type next."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace


class HfcompressError(Exception):
    """Anything hfcompress raises on purpose; its text is fit to show a user as it is."""

    exit_code = 1


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a request.

    Args:
        where: The key, flag, file or column at fault; empty when the whole request is.
        problem: What is wrong, with the value received and what is allowed.
        fix: What to change or type next; empty when `problem` already says so.
    """

    where: str
    problem: str
    fix: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.problem}" if self.where else self.problem
        return f"{text} {self.fix}".rstrip()


class RequestError(HfcompressError, ValueError):
    """The request is wrong; holds every fault found, not only the first.

    Args:
        faults: One or more `Fault`s; a plain string stands for a fault without a place.
    """

    exit_code = 2

    def __init__(self, *faults: Fault | str) -> None:
        self.faults = tuple(f if isinstance(f, Fault) else Fault("", f) for f in faults)
        super().__init__("\n".join(str(f) for f in self.faults))

    def inside(self, where: str, keys: Collection[str] | None = None) -> RequestError:
        """Return the same error with a place before each fault's own.

        Args:
            where: The place.
            keys: What lies in it: faults that begin otherwise, such as with a file's name, stay as they are. None for
                all.
        """
        return type(self)(
            *(
                replace(fault, where=f"{where}.{fault.where}".rstrip("."))
                if keys is None or fault.where.partition(".")[0] in keys
                else fault
                for fault in self.faults
            )
        )


class DataError(RequestError):
    """The data set cannot be used as asked."""


class ModelError(RequestError):
    """The model cannot be used as asked."""


class TeacherError(ModelError):
    """The teacher would teach noise, or in another language than the student's."""


class OutputExistsError(RequestError):
    """The output folder is there already and was not to be replaced."""


class OutputInUseError(HfcompressError):
    """Another run is writing the same output."""


class NetworkError(HfcompressError):
    """Something has to come from the Hub, and the Hub cannot be reached."""


class DiskSpaceError(HfcompressError):
    """The disk lacks room for what would be written."""


class NonFiniteLossError(HfcompressError):
    """Training diverged: the loss is NaN or infinite."""


class ExportError(HfcompressError):
    """A model cannot be turned into a graph, or the graph does not answer as the model does."""


class PushError(HfcompressError):
    """The Hub does not take what is pushed, or does not hold what was."""


class InterruptedByUserError(HfcompressError):
    """The user stopped the run; what was done is kept."""

    exit_code = 130


def closest(name: str, allowed: Iterable[str]) -> str | None:
    """Return the allowed name nearest to a mistyped one, or None when none is near."""
    matches = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.6)
    return matches[0] if matches else None


def unknown(kind: str, name: str, allowed: Iterable[str], where: str = "") -> Fault:
    """Build the fault for a name that is not among the allowed ones.

    Example:
        >>> print(unknown("loss", "kll", ["kl", "jsd"]))
        there is no loss 'kll'. Did you mean 'kl'? Allowed: jsd, kl.
    """
    names = sorted(allowed)
    near = closest(name, names)
    hint = f"Did you mean '{near}'? " if near else ""
    return Fault(where, f"there is no {kind} '{name}'.", f"{hint}Allowed: {', '.join(names)}.")
