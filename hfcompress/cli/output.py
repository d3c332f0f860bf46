"""The one place that prints: results to stdout (tables, or JSON), all else to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hfcompress.errors import HfcompressError, RequestError
from hfcompress.processes import is_main_process


@dataclass(frozen=True)
class Output:
    """Where a verb's words go.

    Args:
        as_json: The result is one JSON document on stdout.
        quiet: Nothing but the result and errors.
    """

    as_json: bool = False
    quiet: bool = False

    @property
    def progress(self) -> bool:
        """Whether progress bars are wanted."""
        return not self.quiet

    def say(self, text: str) -> None:
        """Tell on stderr what happens."""
        if not self.quiet and is_main_process():
            print(text, file=sys.stderr, flush=True)  # noqa: T201

    def result(self, values: Any, *human: Any) -> None:
        """Print the result: JSON when asked for, otherwise the human parts (text, or rich tables) in order."""
        if not is_main_process():
            return
        if self.as_json:
            print(json.dumps(values, indent=2, default=str))  # noqa: T201
            return
        from rich.console import Console

        console = Console(highlight=False, soft_wrap=False)
        if not console.is_terminal:
            # In a file or a pipe a table keeps its columns, however many.
            console = Console(highlight=False, width=max(console.width, 140))
        for part in human:
            # Text is printed as it is: a wrapped line of JSON would no longer be JSON.
            console.print(part, markup=False, soft_wrap=True) if isinstance(part, str) else console.print(part)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    """Build a table: the first column to the left, numbers to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        made.add_column(column, justify="left" if index == 0 else "right", no_wrap=index == 0)
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


def report_error(error: HfcompressError) -> None:
    """Print an error on stderr: one line, or all faults of a request."""
    if isinstance(error, RequestError) and len(error.faults) > 1:
        print(f"error: {len(error.faults)} things to change:", file=sys.stderr)  # noqa: T201
        for fault in error.faults:
            print(f"  - {fault}", file=sys.stderr)  # noqa: T201
    else:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
