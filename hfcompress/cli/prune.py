"""`hfcompress prune`: one model, one method, one data set."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated

from annotated_types import MinLen

from hfcompress.cli.options import OutputOptions, Request, ShipOptions, Verb, as_flags
from hfcompress.cli.output import Output
from hfcompress.cli.recipes import run_recipe
from hfcompress.config import option
from hfcompress.context import Seed
from hfcompress.data import DataConfig
from hfcompress.errors import RequestError


@dataclass
class PruneOptions:
    """What is pruned, and how."""

    model: Annotated[str, MinLen(1)] = option(help="the model: Hub id, folder or short name")
    method: str | None = option(None, help="how it is pruned; `hfcompress list pruning` shows the methods")
    task: str | None = option(None, help="the task (default: what the model's architecture says)")
    seed: Seed = option(42, help="seed of everything random")


def run(request: Request, output: Output) -> None:
    """Build the recipe that the flags stand for, and run it."""
    from hfcompress.pipeline.recipe import build_recipe

    options, config, data, place, ship = request.configs
    told = {name: value for name, value in dataclasses.asdict(config).items() if value not in (None, {}, [])}
    try:
        recipe = build_recipe(
            {
                "model": options.model,
                "task": options.task,
                "seed": options.seed,
                "data": dataclasses.asdict(data),
                "steps": [{options.method: {**told, **request.training}, "as": "pruned"}],
            }
        )
        run_recipe(recipe, place, output, ship=ship)
    except RequestError as error:
        raise as_flags(error, type(config), f"steps.0.{options.method}") from None


VERB = Verb(
    help="Remove weights, heads, neurons, layers, filters or words from a model.",
    examples=(
        "hfcompress prune --model ./my-model --method fisher --macs 0.4 --dataset reviews.csv --output-dir small",
        "hfcompress prune --model ./my-model --method wanda --pattern 2:4 --dataset reviews.csv --output-dir sparse",
        "hfcompress prune --model ./my-model --method magnitude --sparsity 0.5 --modules '*.attention.*' "
        "--layers 0,1 --dataset reviews.csv --output-dir sparse",
        "hfcompress prune --model ./my-model --method magnitude --train --sparsity 0.85 --losses kl "
        "--dataset reviews.csv --output-dir sparse --num-train-epochs 4",
        "hfcompress prune --model ./my-model --method movement --structure heads_and_neurons --sparsity 0.5 "
        "--dataset reviews.csv --output-dir small --learning-rate 1e-4",
        "hfcompress prune --model ./my-model --method vocabulary --dataset reviews.csv --output-dir small",
    ),
    groups=(PruneOptions, DataConfig, OutputOptions, ShipOptions),
    run=run,
    family="pruning",
)
