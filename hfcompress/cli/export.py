"""`hfcompress export`: a checkpoint becomes ONNX files that were proved equal, in float and in fewer bits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import MinLen

from hfcompress.cli.bench import BenchData
from hfcompress.cli.options import OutputOptions, Request, Verb
from hfcompress.cli.output import Output, table
from hfcompress.cli.tables import LATENCY_NOTE, results_table
from hfcompress.config import option
from hfcompress.context import Seed
from hfcompress.export.config import ExportConfig

if TYPE_CHECKING:
    from hfcompress.pipeline.exporting import ExportJob


_MENTIONED = 0.01
"""Part of the bytes from which on it is said what stays float."""


@dataclass
class ExportOptions:
    """Which model."""

    model: Annotated[str, MinLen(1)] = option(help="Hub id, folder or short name of a trained model")
    task: str | None = option(None, help="the task (default: what the model's architecture says)")
    seed: Seed = option(42, help="seed of the rows that --validation 0.1 holds out, and of intervals")


def run(request: Request, output: Output) -> None:
    """Export, or say what would be made."""
    from hfcompress.pipeline.exporting import export_folder, prepare, refuse_place

    options, config, data, place = request.configs
    if not place.dry_run:
        refuse_place(options.model, place.output_dir, place.overwrite, data.dataset or "")
    job = prepare(options.model, config, options.task, data if data.dataset else None, options.seed)
    if place.dry_run:
        _show_plan(job, place.output_dir, output)
        return
    record = export_folder(job, place.output_dir, place.overwrite, output.progress, output.say)
    _show(record, place.output_dir, output)


def _show_plan(job: ExportJob, output_dir: Path, output: Output) -> None:
    values = {
        "task": job.task.name,
        "backend": job.backend,
        "files": job.files,
        "disk_bytes": job.disk_bytes,
        "output_dir": str(output_dir),
    }
    facts = (
        f"{job.model}, task {job.task.name}, traced by the {job.backend} backend, would become {output_dir}, "
        f"at most {job.disk_bytes / 1e6:,.0f} MB, with {', '.join(job.files)}."
    )
    output.result(values, facts)


def _show(record: dict[str, Any], output_dir: Path, output: Output) -> None:
    export = record["export"]
    rows = [[name, f"{facts['bytes'] / 1e6:.1f}"] for name, facts in export["files"].items()]
    parts = [table(["file", "MB"], rows), *_in_words(export), ""]
    if record.get("results"):
        parts += [results_table(record["results"]), LATENCY_NOTE, ""]
    output.result(
        record | {"output_dir": str(output_dir)}, *parts, f"The model and its ONNX files are in {output_dir}."
    )


def _in_words(export: dict[str, Any]) -> list[str]:
    """Say how near the files are to the model."""
    proof, made = export["validation"], export.get("quantization")
    said = [f"float32: largest difference from PyTorch {proof['largest_difference']:.1g}{_agreement(proof)}"]
    for one in export.get("quantizations") or ([made] if made else []):
        said += _one_in_words(one)
    return said


def _one_in_words(made: dict[str, Any]) -> list[str]:
    """Say how near one method's file is, what of it stays float, and which bits each node has."""
    name = made["asked"]
    if "validation" not in made:
        return [f"no {'8-bit' if name == 'int8' else name} file: {made['why']}"]
    nodes = ", ".join(f"{count} {kind}" for kind, count in made["nodes"].items())
    kept = f"; left in float: {', '.join(made['kept_float'])}" if made["kept_float"] else ""
    difference = made["validation"]["largest_difference"]
    said = [f"{name}: largest difference {difference:.1g}{_agreement(made['validation'])} ({nodes}{kept})"]
    rest = sum(one["share"] for one in made["float"])
    if rest >= _MENTIONED:
        most = sorted(made["float"], key=lambda one: -one["share"])[:3]
        names = ", ".join(f"{one['node']} {100 * one['share']:.1f} %" for one in most)
        said.append(
            f"  {100 * rest:.1f} % of the float file's bytes stay float: {names}{' …' * (len(made['float']) > 3)}"
        )
    if made.get("bits"):
        rows = [[one["node"], str(one["bits"]), f"{one['loss']:.1e}", f"{one['bytes']:,}"] for one in made["bits"]]
        said += ["", table(["node", "bits", "loss alone", "bytes"], rows)]
    return said


def _agreement(proof: dict[str, Any]) -> str:
    share = proof["label_agreement"]
    return "" if share is None else f", the same label in {100 * share:.1f} % of what was tried"


VERB = Verb(
    help="Write ONNX files that answer as the model does, in float32 and in fewer bits.",
    examples=(
        "hfcompress export --model ./small --output-dir exported",
        "hfcompress export --model ./small --output-dir small --overwrite --dataset reviews.csv --max-drop 0.005",
        "hfcompress export --model ./small --output-dir exported --quantize int8,int4",
        "hfcompress export --model ./small --output-dir exported --dataset reviews.csv --quantize static",
        "hfcompress export --model distilbert-base-uncased-finetuned-sst-2-english --output-dir sst2 --quantize none",
    ),
    groups=(ExportOptions, ExportConfig, BenchData, OutputOptions),
    run=run,
)
