"""Verbs whose flags depend on a method: `--method fisher` makes that method's options flags."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import MinLen

from hfcompress import registry
from hfcompress.config import option
from hfcompress.context import Seed
from hfcompress.errors import Fault, RequestError, unknown

if TYPE_CHECKING:
    from hfcompress.cli.options import Request, Verb
    from hfcompress.cli.output import Output


@dataclass
class MethodOptions:
    """What is compressed, and how."""

    model: Annotated[str, MinLen(1)] = option(help="the model: Hub id, folder or short name")
    method: str | None = option(None, help="how: one of the methods below, or of `hfcompress list`")
    task: str | None = option(None, help="the task (default: what the model's architecture says)")
    seed: Seed = option(42, help="seed of everything random")


def run_method(request: Request, output: Output, name: str) -> None:
    """Build the recipe of one step that a verb's flags stand for, and run it.

    Args:
        request: The flags: `MethodOptions`, the method's config, data, output folder, what is shipped.
        output: Where the result goes.
        name: What the step's model is called.

    Raises:
        RequestError: The flags are wrong; faults name flags.
    """
    from hfcompress.cli.options import as_flags
    from hfcompress.cli.recipes import run_recipe
    from hfcompress.pipeline.recipe import build_recipe

    options, config, data, place, ship = request.configs
    told = {key: value for key, value in dataclasses.asdict(config).items() if value not in (None, {}, [])}
    step = {options.method: {**told, **request.training}, "as": name}
    try:
        recipe = build_recipe(
            {
                "model": options.model,
                "task": options.task,
                "seed": options.seed,
                "data": dataclasses.asdict(data),
                "steps": [step],
            }
        )
        run_recipe(recipe, place, output, ship=ship)
    except RequestError as error:
        raise as_flags(error, type(config), f"steps.0.{options.method}") from None


def with_method(verb: Verb, words: Sequence[str]) -> Verb:
    """Return a verb with the options of the method that the words name; as it is where they name none that exists."""
    if verb.family is None:
        return verb
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--method", nargs="?")
    method = registry.methods(verb.family).get(finder.parse_known_args(words)[0].method)
    if method is None:
        return verb
    first, *rest = verb.groups
    fields = [field.name for field in dataclasses.fields(method.config)]
    return dataclasses.replace(
        verb,
        help=f"{verb.help}\n\n{method.name}: {method.help}",
        groups=(first, method.config, *rest),
        takes_training="training" in fields,
        method=method,
    )


def require_method(family: str, name: str | None) -> registry.Method:
    """Return the method that was chosen.

    Raises:
        RequestError: None was, or there is none of that name.
    """
    known = registry.methods(family)
    if name is None:
        raise RequestError(Fault("--method", "is missing.", f"Allowed: {', '.join(known)}."))
    if name not in known:
        raise RequestError(unknown("method", name, known, "--method"))
    return known[name]


def method_lines(name: str, verb: Verb) -> str:
    """Return what a verb's help says of the methods; nothing where it has none, or one is chosen."""
    if verb.family is None or verb.method is not None:
        return ""
    known = registry.methods(verb.family)
    width = max(map(len, known)) + 2
    lines = "\n".join(f"  {one:<{width}}{method.help}" for one, method in known.items())
    return f"methods:\n{lines}\n\n`hfcompress {name} --method NAME --help` shows the flags of one.\n\n"


def misplaced(verb: Verb, names: Iterable[str]) -> dict[str, Fault]:
    """Return a fault for each flag that other methods have, or that is for training and the method does not train.

    Args:
        verb: With its method.
        names: Of flags that are not the verb's, with underscores.
    """
    from hfcompress.cli.options import flag
    from hfcompress.training.options import training_fields

    if verb.method is None:
        return {}
    chosen = verb.method.name
    options = {name: _options(method) for name, method in registry.methods(verb.method.family).items()}
    training = {} if verb.takes_training else training_fields()
    takes = f"{chosen} takes {', '.join(map(flag, options[chosen]))}."
    found = {}
    for name in names:
        having = [other for other, theirs in options.items() if name in theirs]
        if having:
            found[name] = Fault(flag(name), f"is an option of {_listed(having)}.", takes)
        elif name in training:
            found[name] = Fault(flag(name), f"is for training, and {chosen} does not train.", takes)
    return found


def _options(method: registry.Method) -> list[str]:
    return [field.name for field in dataclasses.fields(method.config) if not field.metadata.get("recipe_only")]


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
