"""Partial lines: long work that is kept part by part beside the file that it will become."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hfcompress.errors import Fault, OutputExistsError
from hfcompress.folders import refuse_existing, work_folder


class PartialLines:
    """A hidden file beside the output: a first line that says which request it belongs to, then a line for each part.

    Args:
        output_file: What it will become.
    """

    def __init__(self, output_file: Path) -> None:
        self.output_file = output_file
        self.path = work_folder(output_file)

    def open(self, request: str, overwrite: bool) -> int:
        """Go on with what a stopped run left, or begin; return the number of parts that are done.

        Args:
            request: The same for a run that would write the same.
            overwrite: Begin anew where the file belongs to another request.

        Raises:
            OutputExistsError: It belongs to another request.
        """
        if self.path.exists():
            whole, newline, rest = self.path.read_bytes().rpartition(b"\n")
            lines = whole.split(b"\n")
            if newline and json.loads(lines[0]) == request:
                os.truncate(self.path, self.path.stat().st_size - len(rest))
                return len(lines) - 1
            if newline and not overwrite:
                problem = "is what a stopped run left that had other options, texts or weights."
                fix = "Repeat that run's command to go on with it, remove the file, or pass --overwrite."
                raise OutputExistsError(Fault(str(self.path), problem, fix))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(request) + "\n", encoding="utf-8")
        return 0

    def append(self, part: Any) -> None:
        """Keep one more part."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(part, ensure_ascii=False) + "\n")

    def parts(self) -> Iterator[Any]:
        """Return the parts in their order."""
        with self.path.open(encoding="utf-8") as file:
            next(file)
            yield from map(json.loads, file)

    def finish(self, lines_of: Callable[[Any], list[Any]]) -> int:
        """Turn the parts into the output file, which appears whole, and return its number of lines.

        Args:
            lines_of: Gives the lines of one part.
        """
        made = self.path.with_suffix(".new")
        count = 0
        with made.open("w", encoding="utf-8") as file:
            for part in self.parts():
                lines = lines_of(part)
                file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
                count += len(lines)
            file.flush()
            os.fsync(file.fileno())
        made.replace(self.output_file)
        self.path.unlink()
        return count


def refuse_output_file(output_file: Path, overwrite: bool) -> None:
    """Make sure that an output file may be written.

    Raises:
        OutputExistsError: It is there and `overwrite` is false, it is a folder, or its parent is not one.
    """
    if output_file.is_dir():
        raise OutputExistsError(Fault(str(output_file), "is a folder.", "Give --output-file the name of a file."))
    if output_file.exists() and not overwrite:
        fix = "Choose another --output-file, or pass --overwrite to replace it once the new one is complete."
        raise OutputExistsError(Fault(str(output_file), "exists already.", fix))
    refuse_existing(output_file, overwrite=True)  # looks at the parent
