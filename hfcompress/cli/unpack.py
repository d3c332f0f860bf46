"""`hfcompress unpack`: the checkpoint of a packed file, as it was."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hfcompress.cli.options import OutputOptions, Request, Verb, positional
from hfcompress.cli.output import Output
from hfcompress.errors import Fault, RequestError


@dataclass
class UnpackOptions:
    """What is unpacked."""

    file: str | None = positional(help="a .hfz file that `hfcompress pack` or `cluster --pack` wrote")


def run(request: Request, output: Output) -> None:
    """Unpack the file; with `--dry-run` only look whether it is whole."""
    import tempfile

    from hfcompress.clustering.container import unpack

    options, place = request.configs
    if options.file is None:
        raise RequestError(Fault("", "name a file.", "For example: hfcompress unpack model.hfz --output-dir my-model"))
    if place.dry_run:
        with tempfile.TemporaryDirectory() as scratch:
            report = unpack(Path(options.file), Path(scratch) / "out", progress=output.progress)
        said = f"{options.file} is whole: {len(report.files)} files, {report.bytes / 1e6:,.2f} MB. Nothing was written."
    else:
        report = unpack(Path(options.file), place.output_dir, place.overwrite, output.progress)
        said = f"{place.output_dir}: {len(report.files)} files, {report.bytes / 1e6:,.2f} MB, as they were packed."
    output.result(report.to_dict() | {"folder": str(place.output_dir)}, said)


VERB = Verb(
    help="Restore the checkpoint of a .hfz file; `from_pretrained` loads the folder.",
    examples=("hfcompress unpack model.hfz --output-dir my-model",),
    groups=(UnpackOptions, OutputOptions),
    run=run,
)
