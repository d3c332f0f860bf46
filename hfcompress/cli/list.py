"""`hfcompress list`: what there is to choose from."""

from __future__ import annotations

from dataclasses import dataclass

from hfcompress.cli.options import Request, Verb, positional
from hfcompress.cli.output import Output, table
from hfcompress.errors import RequestError, unknown


@dataclass
class ListOptions:
    """Of what kind."""

    family: str | None = positional(help="a family of methods, or: task, recipe, model (short names)")


def run(request: Request, output: Output) -> None:
    """List one family, or all."""
    (options,) = request.configs
    known = everything()
    if options.family is not None and options.family not in known:
        raise RequestError(unknown("family", options.family, known))
    chosen = known if options.family is None else {options.family: known[options.family]}
    rows = [[family, name, text] for family, names in chosen.items() for name, text in names.items()]
    made = table(["family", "name", "what it is"], rows)
    for column in made.columns:
        column.justify = "left"
    output.result(chosen, made)


def everything() -> dict[str, dict[str, str]]:
    """Return one line on each thing to choose, by kind and name."""
    import yaml

    from hfcompress import registry
    from hfcompress.pipeline.recipe import shipped_recipes
    from hfcompress.sources import SHORT_NAMES
    from hfcompress.tasks import TASKS

    found = {family: {name: m.help for name, m in registry.methods(family).items()} for family in registry.FAMILIES}
    recipes = {name: yaml.safe_load(path.read_text(encoding="utf-8")) for name, path in shipped_recipes().items()}
    found["recipe"] = {name: str(values.get("description", "")) for name, values in recipes.items()}
    found["task"] = {name: f"{task.auto_model}, scored by {task.main_metric}" for name, task in TASKS.items()}
    found["model"] = dict(SHORT_NAMES)
    return found


VERB = Verb(
    help="List methods, losses, layer maps, tasks, recipes and short names of models.",
    examples=("hfcompress list", "hfcompress list loss --json"),
    groups=(ListOptions,),
    run=run,
)
