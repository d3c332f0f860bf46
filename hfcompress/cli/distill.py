"""`hfcompress distill`: one teacher, one student, one data set."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import MinLen

from hfcompress.cli.options import OutputOptions, Request, ShipOptions, Verb
from hfcompress.cli.output import Output
from hfcompress.cli.recipes import run_recipe
from hfcompress.config import option
from hfcompress.context import Seed
from hfcompress.data import DataConfig
from hfcompress.distillation.distill import DistillConfig
from hfcompress.errors import Fault, RequestError


@dataclass
class DistillOptions:
    """The teacher."""

    teacher: Annotated[list[Annotated[str, MinLen(1)]], MinLen(1)] = option(
        help="fine-tuned model: Hub id, folder, or short name such as bert-base; several are averaged"
    )
    finetune_teacher: bool = option(False, help="fine-tune the teacher on the data first, with the same training flags")
    task: str | None = option(None, help="the task (default: what the teacher's architecture says)")
    seed: Seed = option(42, help="seed of everything random")


def run(request: Request, output: Output) -> None:
    """Build the recipe that the flags stand for, and run it."""
    from hfcompress.pipeline.recipe import build_recipe

    options, distill, data, place, ship = request.configs
    several = len(options.teacher) > 1
    if several and options.finetune_teacher:
        fault = Fault("--finetune-teacher", "goes with one teacher.", "Fine-tune each of them first, with a recipe.")
        raise RequestError(fault)
    told = {name: value for name, value in dataclasses.asdict(distill).items() if value not in (None, {})}
    steps: list[dict[str, Any]] = [{"distill": {**told, **request.training}, "as": "student"}]
    if several:
        steps[0]["distill"]["teacher"] = options.teacher
    if options.finetune_teacher:
        steps.insert(0, {"finetune": dict(request.training), "as": "teacher"})
    recipe = build_recipe(
        {
            "model": options.teacher[0],
            "task": options.task,
            "seed": options.seed,
            "data": dataclasses.asdict(data),
            "steps": steps,
        }
    )
    run_recipe(recipe, place, output, ship=ship)


VERB = Verb(
    help="Train a small student to answer as a fine-tuned teacher does.",
    examples=(
        "hfcompress distill --teacher bert-base --student distilbert --dataset stanfordnlp/sst2 --output-dir out",
        "hfcompress distill --teacher ./my-model --student cut:layers=3 --dataset reviews.csv --output-dir small",
        "hfcompress distill --teacher bert-base --finetune-teacher --student cut:layers=4 --losses kl,hidden_mse "
        "--dataset reviews.csv --output-dir small --learning-rate 1e-4 --num-train-epochs 4",
        "hfcompress distill --teacher ./my-model --student cut:layers=3 --dataset reviews.csv --cache-teacher answers "
        "--unlabeled-dataset more-text.jsonl --unlabeled-ratio 2 --output-dir small",
        "hfcompress distill --teacher ./my-model --student cut:layers=3 --dataset reviews.csv --output-dir small "
        "--export onnx --push-to-hub me/small",
    ),
    groups=(DistillOptions, DistillConfig, DataConfig, OutputOptions, ShipOptions),
    run=run,
    takes_training=True,
)
