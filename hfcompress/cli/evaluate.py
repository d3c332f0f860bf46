"""`hfcompress evaluate`: models side by side on held-out data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hfcompress.cli.options import Request, Verb
from hfcompress.cli.output import Output
from hfcompress.cli.tables import LATENCY_NOTE, results_table
from hfcompress.config import option
from hfcompress.context import Seed
from hfcompress.data import DataConfig
from hfcompress.errors import Fault, ModelError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from hfcompress.tasks import Task


@dataclass
class EvaluateOptions:
    """Which models."""

    model: list[str] = option(
        help="Hub id, folder or short name, or an ONNX file; the first is what the others are compared with"
    )
    task: str | None = option(None, help="the task (default: what the first model's architecture says)")
    metric: list[str] = option(
        [], help="more metrics of the evaluate library, by name (from the Hub) or as the path of a script"
    )
    generate: bool = option(False, help="let the models write, too, and score that (ROUGE-L; text2text-generation)")
    latency: bool = option(False, help="time the models too, in one run")
    seed: Seed = option(42, help="seed of the bootstrap intervals, and of the rows that --validation 0.1 holds out")


def run(request: Request, output: Output) -> None:
    """Score each model with its own tokenizer on the same rows."""
    from hfcompress.data import load_validation
    from hfcompress.measure.quality import More
    from hfcompress.measure.runnable import config_of
    from hfcompress.pipeline.held_out import seen_before
    from hfcompress.pipeline.measured import compare
    from hfcompress.tasks import find_task, task_of_config

    options, data = request.configs
    configs = {name: config_of(name) for name in options.model}
    first = next(iter(configs))
    task = find_task(options.task) if options.task else task_of_config(configs[first], first)
    labels = shared_labels(configs, task)
    rows = load_validation(data, labels, options.seed, task, configs[first].problem_type)
    for warning in seen_before(configs, data.dataset, rows):
        output.say(f"note: {warning}")
    found = compare(
        {name: name for name in configs},
        task,
        rows,
        options.seed,
        options.latency,
        progress=output.progress,
        more=More(options.metric, options.generate),
    )
    note = [LATENCY_NOTE] if options.latency else []
    heading = f"{len(rows.validation)} rows of {data.dataset}"
    output.result({"rows": len(rows.validation), "results": found}, heading, results_table(found), *note)


def shared_labels(configs: Mapping[str, PretrainedConfig], task: Task) -> tuple[str, ...]:
    """Return the labels of all models.

    Raises:
        ModelError: A model has no trained head, or other labels than the first; all such models.
    """
    from hfcompress.tasks import are_default_labels, trained_labels

    faults = []
    shared: tuple[str, ...] = ()
    for name, config in configs.items():
        labels = trained_labels(config, task)
        if labels is None:
            faults.append(Fault(name, f"has no trained head for {task.name}: there is nothing to evaluate."))
            continue
        shared = shared or labels
        unnamed = are_default_labels(labels) or are_default_labels(shared)
        if len(labels) != len(shared) or (
            not unnamed and list(map(str.casefold, labels)) != list(map(str.casefold, shared))
        ):
            faults.append(Fault(name, f"its labels are {', '.join(labels)}, the first model's {', '.join(shared)}."))
    if faults:
        raise ModelError(*faults)
    return shared


VERB = Verb(
    help="Score models on held-out data, side by side, with 95 % bootstrap intervals.",
    examples=(
        "hfcompress evaluate --model small --dataset reviews.csv",
        "hfcompress evaluate --model small --model small/onnx/model_quantized.onnx --dataset reviews.csv",
        "hfcompress evaluate --model bert-finetuned --model small --dataset stanfordnlp/sst2 --latency --json",
    ),
    groups=(EvaluateOptions, DataConfig),
    run=run,
)
