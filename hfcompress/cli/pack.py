"""`hfcompress pack`: a checkpoint folder becomes one file, without loss."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hfcompress.cli.options import Request, Verb, positional
from hfcompress.cli.output import Output, table
from hfcompress.config import option
from hfcompress.errors import Fault, RequestError

_SHOWN = 12
"""How many tensors the table lists, the largest first."""


@dataclass
class PackOptions:
    """What goes where."""

    paths: list[str] = positional(help="a checkpoint folder, and the .hfz file to write", many=True)
    overwrite: bool = option(False, help="replace a file that is there")
    dry_run: bool = option(False, help="pack, and say what that takes; keep no file")


def run(request: Request, output: Output) -> None:
    """Pack the folder."""
    from hfcompress.clustering.container import pack
    from hfcompress.clustering.container.packing import refuse_file

    (options,) = request.configs
    if len(options.paths) != 2:
        raise RequestError(Fault("", "name a folder and a file.", "For example: hfcompress pack my-model my-model.hfz"))
    folder, file = map(Path, options.paths)
    if options.dry_run:
        import tempfile

        refuse_file(file, options.overwrite)
        with tempfile.TemporaryDirectory() as place:
            report = pack(folder, Path(place) / file.name, progress=output.progress)
    else:
        report = pack(folder, file, options.overwrite, output.progress)
    ratio = report.unpacked_bytes / report.bytes
    said = f"{file}: {report.bytes / 1e6:,.2f} MB of {report.unpacked_bytes / 1e6:,.2f} ({ratio:.2f} times smaller)"
    said += ". Nothing was written." if options.dry_run else f". Restore it: hfcompress unpack {file} --output-dir DIR"
    output.result(report.to_dict() | {"file": str(file)}, _tensors(report.tensors), said)


def _tensors(tensors: dict[str, dict[str, Any]]) -> Any:
    """Show the largest tensors."""
    largest = sorted(tensors.items(), key=lambda item: -item[1]["bytes"])[:_SHOWN]
    rows = [[name, f"{one['bytes'] / 1e6:,.2f}", f"{one['packed'] / 1e6:,.2f}", one["coding"]] for name, one in largest]
    title = "tensor" if len(tensors) <= _SHOWN else f"tensor ({len(rows)} of {len(tensors)})"
    return table([title, "MB", "packed", "coding"], rows)


VERB = Verb(
    help="Put all files of a checkpoint into one, without loss: every byte comes out again.",
    examples=(
        "hfcompress pack my-model my-model.hfz",
        "hfcompress pack my-model my-model.hfz --dry-run",
    ),
    groups=(PackOptions,),
    run=run,
)
