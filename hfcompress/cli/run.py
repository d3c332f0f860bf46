"""`hfcompress run`: a recipe file, with values changed on the command line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from hfcompress.cli.options import OutputOptions, Request, ShipOptions, Verb, positional
from hfcompress.cli.output import Output
from hfcompress.cli.recipes import run_recipe
from hfcompress.config import option
from hfcompress.errors import Fault, RequestError


@dataclass
class RunOptions:
    """Which recipe."""

    recipe: str | None = positional(help="a YAML file, or the name of a recipe that the package ships")
    overrides: list[str] = positional(help="key=value, dots lead inside: data.max_train_samples=100", many=True)
    output_dir: Path | None = option(None, help="folder for the result (default: the recipe's name)")
    overwrite: bool = option(False, help="replace an existing folder once the new one is complete")
    dry_run: bool = option(False, help="say what would be made and what it costs; write nothing")
    schema: bool = option(False, help="print the JSON schema of recipes, for editors")


def run(request: Request, output: Output) -> None:
    """Read the recipe and run it; finished steps of an earlier try are not done again."""
    from hfcompress.pipeline.recipe import find_recipe, read_recipe, recipe_schema

    options, ship = request.configs
    if options.schema:
        schema = recipe_schema()
        output.result(schema, json.dumps(schema, indent=2))
        return
    if options.recipe is None:
        raise RequestError(Fault("", "name a recipe.", "`hfcompress list recipe` shows those that the package ships."))
    path = find_recipe(options.recipe)
    place = OutputOptions(options.output_dir or Path(path.stem), options.overwrite, options.dry_run)
    run_recipe(read_recipe(path, options.overrides), place, output, reuse=True, ship=ship)


VERB = Verb(
    help="Run a recipe: several steps in order. A stopped run goes on after the last finished step.",
    examples=(
        "hfcompress run quickstart --output-dir out",
        "hfcompress run my.yaml data.max_train_samples=500 steps.1.distill.num_train_epochs=4 --output-dir out",
        "hfcompress run my.yaml --dry-run",
        "hfcompress run --schema > recipe.schema.json",
    ),
    groups=(RunOptions, ShipOptions),
    run=run,
)
