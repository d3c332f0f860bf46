"""`hfcompress export`: a checkpoint becomes ONNX files that were proved equal."""

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
        refuse_place(options.model, place.output_dir, place.overwrite)
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
    proof, int8 = export["validation"], export.get("quantization") or {}
    said = [f"float32: largest difference from PyTorch {proof['largest_difference']:.1g}{_agreement(proof)}"]
    if "validation" in int8:
        nodes = ", ".join(f"{count} {kind}" for kind, count in int8["nodes"].items())
        kept = f"; left in float: {', '.join(int8['kept_float'])}" if int8["kept_float"] else ""
        difference = int8["validation"]["largest_difference"]
        said.append(f"int8: largest difference {difference:.1g}{_agreement(int8['validation'])} ({nodes}{kept})")
    elif int8:
        said.append(f"no 8-bit file: {int8['why']}")
    return said


def _agreement(proof: dict[str, Any]) -> str:
    share = proof["label_agreement"]
    return "" if share is None else f", the same label in {100 * share:.1f} % of what was tried"


VERB = Verb(
    help="Write ONNX files that answer as the model does, in float32 and in eight bits.",
    examples=(
        "hfcompress export --model ./small --output-dir exported",
        "hfcompress export --model ./small --output-dir small --overwrite --dataset reviews.csv --max-drop 0.005",
        "hfcompress export --model distilbert-base-uncased-finetuned-sst-2-english --output-dir sst2 --quantize none",
    ),
    groups=(ExportOptions, ExportConfig, BenchData, OutputOptions),
    run=run,
)
