"""What the verbs that run steps share: a plan for `--dry-run`, the run itself, and how its result is told."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any

from hfcompress.cli.options import OutputOptions, ShipOptions
from hfcompress.cli.output import Output
from hfcompress.cli.tables import AT_MOST_NOTE, EXPECTED_NOTE, LATENCY_NOTE, expected_table, plan_table, results_table
from hfcompress.errors import HfcompressError, InterruptedByUserError
from hfcompress.processes import is_main_process

if TYPE_CHECKING:
    from hfcompress.pipeline.recipe import Recipe


def run_recipe(
    recipe: Recipe, options: OutputOptions, output: Output, reuse: bool = False, ship: ShipOptions | None = None
) -> None:
    """Run a recipe (or say what it would do) and print the result.

    Args:
        recipe: What to do.
        options: Where the result goes.
        output: Where words go.
        reuse: Show an output folder that this very recipe made before, instead of refusing it.
        ship: What else is made of the result.
    """
    from hfcompress.export.config import ExportConfig
    from hfcompress.hub.access import check_push
    from hfcompress.pipeline.job import finished, prepare
    from hfcompress.pipeline.plan import plan_steps, trains
    from hfcompress.pipeline.prediction import predict_first
    from hfcompress.pipeline.provenance import refuse_output
    from hfcompress.pipeline.runner import run

    ship = ship or ShipOptions()
    if ship.export and recipe.export is None:
        recipe.export = ExportConfig()
    if not reuse and not options.dry_run:
        refuse_output(options.output_dir, options.overwrite, recipe)
    job = prepare(recipe)
    if ship.push_to_hub and not options.dry_run:
        check_push(ship.push_to_hub, public=ship.public, say=output.say)  # now, not after hours of training
    if not job.trained and not trains(job.steps[0]):
        output.say(
            "note: the model's head was never trained for this task, and the first step does not train it either"
        )
    if options.dry_run:
        predicted = predict_first(job, output.progress, output.say)
        plans = plan_steps(job.config, job.steps, job.task, job.data, predicted)
        record = {"training_rows": len(job.data.train), "validation_rows": len(job.data.validation)}
        heading = (
            f"{record['training_rows']} training and {record['validation_rows']} validation rows; nothing was written."
        )
        shown = [plan_table(plans), *([AT_MOST_NOTE] if any(plan.at_most for plan in plans) else [])]
        if any(plan.expected for plan in plans):
            shown += [expected_table(plans), EXPECTED_NOTE]
        output.result(record | {"steps": [plan.to_dict() for plan in plans]}, *shown, heading)
        return
    done = finished(job, options.output_dir) if reuse and not options.overwrite else None
    if done is not None:
        output.say(f"{options.output_dir} was made by this very recipe: nothing to do (remove it to do it again).")
    try:
        record = done or run(job, options.output_dir, options.overwrite, output.progress, output.say)
    except InterruptedByUserError as error:
        raise InterruptedByUserError(f"{error} Run the same command again to go on from there.") from None
    if record:
        pushed = _push(options.output_dir, ship, output) if ship.push_to_hub else None
        show(record, options.output_dir, output, pushed)


def _push(folder: Path, ship: ShipOptions, output: Output) -> dict[str, Any] | None:
    from hfcompress.hub.push import push

    if not is_main_process():
        return None
    try:
        return push(folder, str(ship.push_to_hub), public=ship.public, say=output.say).to_dict()
    except HfcompressError as error:
        output.say(
            f"The model is in {folder}; it was not pushed. Once the fault is mended: "
            f"hfcompress push {folder} --repo-id {ship.push_to_hub}{' --public' if ship.public else ''}"
        )
        raise error


def show(record: dict[str, Any], output_dir: Path, output: Output, pushed: dict[str, Any] | None = None) -> None:
    """Print a finished run: the table, where the model lies, how to use it, and where it was pushed."""
    from hfcompress.hub.card.usage import import_line
    from hfcompress.tasks import find_task

    task = find_task(record["task"])
    code = import_line(json.loads((output_dir / "config.json").read_text(encoding="utf-8")))
    if task.sample:
        code += (
            f'from transformers import pipeline\nmodel = pipeline("{task.name}", model="{output_dir}")\n'
            f"print(model({task.sample}))"
        )
    else:
        auto = task.auto_model
        code += f'from transformers import {auto}\nmodel = {auto}.from_pretrained("{output_dir}")'
    usage = f"The model is in {output_dir}. Use it:\n\n{indent(code, ' ' * 4)}\n"
    packed = record.get("packed", {}).get("file", "")
    made = [name for name in ("README.md", "report.html", "onnx", packed) if name and (output_dir / name).exists()]
    usage += f"\nBeside it: {', '.join(made)}.\n" if made else ""
    usage += f"\nPushed to {pushed['url']}\n" if pushed else ""
    values = record | {"output_dir": str(output_dir)} | ({"pushed": pushed} if pushed else {})
    output.result(values, results_table(record["results"]), LATENCY_NOTE, "", usage)
