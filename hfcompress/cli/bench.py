"""`hfcompress bench`: models side by side: time, size, memory, and quality where there are data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt, Interval

from hfcompress.cli.options import Request, Verb
from hfcompress.cli.output import Output, table
from hfcompress.config import option
from hfcompress.context import Seed
from hfcompress.data import DataConfig
from hfcompress.errors import Fault, OutputExistsError, RequestError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from hfcompress.data import TaskData
    from hfcompress.measure.bench import BenchSettings
    from hfcompress.measure.report.summary import Cell
    from hfcompress.tasks import Task

ALL = "all"
MEASUREMENTS = "measurements.json"


@dataclass
class BenchOptions:
    """Which models, and how they are timed."""

    model: list[str] = option(
        help="folder, Hub id or short name, or an ONNX file; the first is what the others are compared with"
    )
    task: str | None = option(None, help="the task (default: what the first model's architecture says)")
    batch_sizes: list[Annotated[int, Interval(ge=1, le=1024)]] = option(
        [1, 32], help="texts or images in a call; 1,32 unless given"
    )
    lengths: list[Annotated[int, Interval(ge=1, le=131072)]] = option(
        [32, 128], help="tokens of a text, cut to what all models take; 32,128 unless given; images have their size"
    )
    threads: list[str] = option(["1", ALL], help="threads of a call, or `all`; 1,all unless given")
    rounds: Annotated[int, Ge(2)] = option(40, help="how often each setting is timed, at most")
    seconds: Annotated[float, Gt(0)] = option(
        10.0, help="no further round of a setting begins after so long, but three are timed in any case"
    )
    no_memory: bool = option(False, help="do not measure the peak memory, which takes a process for each model")
    seed: Seed = option(42, help="seed of the bootstrap intervals, and of the rows that --validation 0.1 holds out")

    def check(self) -> None:
        """Look at the numbers of threads.

        Raises:
            RequestError: One is no number, or more than there are cores.
        """
        from hfcompress.environment import available_cores

        cores = available_cores()
        wrong = [text for text in self.threads if text != ALL and not (text.isdecimal() and 1 <= int(text) <= cores)]
        if wrong:
            given = ", ".join(repr(text) for text in wrong)
            raise RequestError(Fault("threads", f"takes whole numbers from 1 to {cores}, or `all`, got {given}."))

    def settings(self) -> BenchSettings:
        """Return what is timed."""
        from hfcompress.measure.bench import BenchSettings
        from hfcompress.measure.latency import Effort

        threads = tuple(0 if text == ALL else int(text) for text in self.threads)
        effort = Effort(self.rounds, seconds=self.seconds, least=min(3, self.rounds))
        return BenchSettings(tuple(self.batch_sizes), tuple(self.lengths), threads, effort, not self.no_memory)


@dataclass
class BenchData(DataConfig):
    """Which data quality is measured on; none: no quality."""

    dataset: str | None = option(  # type: ignore[assignment]
        None, help="Hub id (name or name:config), or a csv, json, jsonl or parquet file, or a folder of them"
    )


@dataclass
class ReportOptions:
    """Where the report goes."""

    output_dir: Path | None = option(None, help="write measurements.json, report.html and figures into this folder")
    overwrite: bool = option(False, help="replace an earlier report there")

    def check(self) -> None:
        """Look whether an earlier report would be lost.

        Raises:
            OutputExistsError: There is one, or a file stands where the folder would.
        """
        if self.output_dir is None:
            return
        if self.output_dir.exists() and not self.output_dir.is_dir():
            raise OutputExistsError(Fault("output_dir", f"{self.output_dir} is a file."))
        if self.output_dir.is_symlink() and not self.output_dir.exists():
            raise OutputExistsError(Fault("output_dir", f"{self.output_dir} is a link that leads nowhere."))
        # The measurements arrive last: a report without them is what a killed run left.
        if (self.output_dir / MEASUREMENTS).exists() and not self.overwrite:
            fix = "Choose another folder, or pass --overwrite to replace them and the report."
            raise OutputExistsError(Fault("output_dir", f"{self.output_dir} holds {MEASUREMENTS} already.", fix))


def run(request: Request, output: Output) -> None:
    """Measure, print, and write the report where it is asked for."""
    from hfcompress.folders import refuse_parents
    from hfcompress.measure.bench import bench
    from hfcompress.measure.runnable import config_of
    from hfcompress.pipeline.held_out import seen_before
    from hfcompress.sources import shown
    from hfcompress.tasks import find_task, task_of_config

    options, data, report = request.configs
    if report.output_dir:
        refuse_parents(report.output_dir)
    configs = {source: config_of(source) for source in dict.fromkeys(options.model)}
    first = next(iter(configs))
    task = find_task(options.task) if options.task else task_of_config(configs[first], first)
    rows = _load_rows(configs, data, options.seed, task) if data.dataset else None
    for note in seen_before(configs, data.dataset, rows) if data.dataset and rows else ():
        output.say(f"note: {note}")
    found = bench(
        short_names(list(configs)), task, rows, options.seed, settings=options.settings(), progress=output.progress
    )
    found["dataset"] = shown(data.dataset)
    if report.output_dir:
        _write(found, report.output_dir, output)
    output.result(found, *_tables(found))


def _load_rows(configs: Mapping[str, PretrainedConfig], data: BenchData, seed: int, task: Task) -> TaskData:
    from hfcompress.cli.evaluate import shared_labels
    from hfcompress.data import load_validation

    first = next(iter(configs.values()))
    return load_validation(data, shared_labels(configs, task), seed, task, first.problem_type)


def short_names(sources: Sequence[str]) -> dict[str, str]:
    """Return models by a name that tells them apart and says nothing of where on this machine they lie.

    Example:
        >>> short_names(["/home/me/small", "bert-base"])
        {'small': '/home/me/small', 'bert-base': 'bert-base'}
    """
    found: dict[str, str] = {}
    for source in sources:
        name = _name(source)
        alike = sum(known == name or known.startswith(f"{name} (") for known in found)
        found[f"{name} ({alike + 1})" if alike else name] = source
    return found


def _name(source: str) -> str:
    from hfcompress.measure.runnable import file_of, folder_of
    from hfcompress.modeling.onnx_model import is_onnx

    if is_onnx(source):
        return f"{Path(folder_of(source)).resolve().name}/{file_of(source)}"
    return Path(source).resolve().name if Path(source).exists() else source


def _write(found: Mapping[str, Any], folder: Path, output: Output) -> None:
    """Write the report, then the measurements, which tell that both are complete; without matplotlib these alone."""
    import json

    from hfcompress.folders import RECORD, move_inside, owned, scratch_folder
    from hfcompress.measure.report import write_report

    record = folder / RECORD
    with owned(folder), scratch_folder(folder, "bench") as work:
        said = f"the report is {folder / 'report.html'}"
        try:
            write_report(found, json.loads(record.read_text(encoding="utf-8")) if record.is_file() else None, work)
        except RequestError as error:
            said = f"note: {folder / MEASUREMENTS} is written, but no report.html: {error}"
        (work / MEASUREMENTS).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        move_inside(work, folder, last=MEASUREMENTS)
    output.say(said)


def _tables(found: Mapping[str, Any]) -> list[Any]:
    """Return what people read: all models beside each other, every timing, and what got slower or larger."""
    from hfcompress.measure.report import summary
    from hfcompress.measure.report.details import latency_rows

    models = found["models"]
    cells = [[_label(row.name, row.unit), *map(_cell, row.cells)] for row in summary.table(found)]
    kinds = ["", *(f"{model['runtime']} {model['precision'] or ''}".strip() for model in models)]
    parts = [table(["", *(model["name"] for model in models)], [kinds, *cells])]
    timed = latency_rows(found)
    if timed:
        columns = ["timed", "model", "ms", "95th percentile", "ratio", "quartiles"]
        keys = ("setting", "name", "median", "p95", "ratio", "interval")
        parts += [table(columns, [[row[key] for key in keys] for row in timed]), _rounds(models[0]["latencies"])]
    return [*parts, *summary.in_words(found)]


def _label(name: str, unit: str) -> str:
    return f"{name}, {unit}" if unit else name


def _cell(cell: Cell) -> str:
    return f"{cell.text} ({cell.note})" if cell.note else cell.text


def _rounds(timings: Sequence[Mapping[str, Any]]) -> str:
    least, most = (choose(timing["rounds"] for timing in timings) for choose in (min, max))
    count = f"{least}" if least == most else f"{least} to {most}"
    return f"Models took turns in one process, {count} rounds a setting; ratios are to the first, round by round."


VERB = Verb(
    help="Measure models side by side: time, size, memory, and quality where there are data.",
    examples=(
        "hfcompress bench --model teacher --model small --model small/onnx/model_quantized.onnx",
        "hfcompress bench --model small --batch-sizes 1 --lengths 64 --threads 1 --json",
        "hfcompress bench --model teacher --model small --dataset reviews.csv --output-dir report",
    ),
    groups=(BenchOptions, BenchData, ReportOptions),
    run=run,
)
