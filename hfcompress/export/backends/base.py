"""What an export backend is: it traces a model; fusion, quantization, validation and layout are shared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hfcompress.errors import Fault, RequestError
from hfcompress.registry import find

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from hfcompress.tasks import Task

FAMILY = "export_backend"
"""The backends' family in the list of methods."""

AUTO = ("optimum", "native")
"""The order in which `auto` tries backends."""


@dataclass
class BackendOptions:
    """A backend has no options of its own."""


class Backend(Protocol):
    """Turns a live model into fp32 graphs."""

    name: str

    def check(self) -> None:
        """Make sure that what the backend needs is installed.

        Raises:
            RequestError: Something is missing; the message says which extra brings it, and with which transformers.
        """

    def trace(self, model: PreTrainedModel, task: Task, folder: Path, opset: int | None) -> list[Path]:
        """Write a model's graphs into a folder, under Optimum's file, input, output and axis names.

        Args:
            model: The model, in evaluation mode; it is left as it was.
            task: What it is for.
            folder: An empty folder.
            opset: Version of the operator set; None for the backend's own choice.

        Returns:
            The graphs' files.

        Raises:
            ExportError: The model cannot be expressed.
        """


def find_backend(name: str) -> Backend:
    """Return a backend that can be used here.

    Args:
        name: Its name, or `auto` for the first of `AUTO` that is installed.

    Raises:
        RequestError: There is none of that name, or it is not installed.
    """
    if name != "auto":
        return _checked(name)
    faults: list[Fault] = []
    for one in AUTO:
        try:
            return _checked(one)
        except RequestError as error:
            faults += error.faults
    raise RequestError(*faults)


def _checked(name: str) -> Backend:
    backend: Backend = find(FAMILY, name, "backend").target()
    backend.check()
    return backend
