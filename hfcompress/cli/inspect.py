"""`hfcompress inspect`: what a model is made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Ge

from hfcompress.cli.options import Request, Verb, positional
from hfcompress.cli.output import Output, table
from hfcompress.config import option
from hfcompress.errors import Fault, RequestError


@dataclass
class InspectOptions:
    """Which model."""

    model: str | None = positional(help="Hub id, folder or short name")
    task: str | None = option(None, help="the task (default: what the model's architecture says)")
    length: Annotated[int, Ge(1)] = option(128, help="tokens that the MACs are counted for")


def run(request: Request, output: Output) -> None:
    """Count from the config alone; weights are not loaded."""
    from hfcompress.measure.size import measure_size, weight_bytes
    from hfcompress.modeling.load import load_config
    from hfcompress.sources import resolve
    from hfcompress.tasks import find_task, task_of_config

    (options,) = request.configs
    if options.model is None:
        raise RequestError(Fault("", "name a model.", "For example: hfcompress inspect bert-base"))
    config = load_config(options.model)
    task = find_task(options.task) if options.task else task_of_config(config, options.model)
    size = measure_size(config, task, options.length)
    folder = Path(resolve(options.model))
    on_disk = weight_bytes(folder) if folder.is_dir() else None
    shares = sorted(size.components.items(), key=lambda item: -item[1])
    rows = [
        [name, f"{count:,}", f"{100 * count / size.parameters:.1f} %", f"{4 * count / 1e6:.1f}"]
        for name, count in shares
    ]
    rows.append(["all", f"{size.parameters:,}", "100.0 %", f"{4 * size.parameters / 1e6:.1f}"])
    layers = getattr(config, "num_hidden_layers", None)
    facts = [
        f"{config.model_type}, {layers} layers of width {getattr(config, 'hidden_size', '?')}, task {task.name}",
        f"{size.macs / 1e9:.3f} GMACs for {size.length} tokens",
        *([f"{on_disk / 1e6:.1f} MB of safetensors on disk"] if on_disk else []),
    ]
    values = {
        "model_type": config.model_type,
        "task": task.name,
        "layers": layers,
        "bytes_on_disk": on_disk,
        **size.to_dict(),
    }
    output.result(
        values, options.model, table(["component", "parameters", "share", "MB in float32"], rows), "\n".join(facts)
    )


VERB = Verb(
    help="Show what a model is made of: parameters and megabytes by component, multiply-accumulates.",
    examples=("hfcompress inspect bert-base", "hfcompress inspect ./my-model --length 256 --json"),
    groups=(InspectOptions,),
    run=run,
)
