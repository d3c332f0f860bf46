"""Verbs whose flags depend on a method: `--method fisher` makes that method's options flags."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import MinLen
from pydantic import AfterValidator

from hfcompress import registry
from hfcompress.config import option
from hfcompress.context import Seed
from hfcompress.errors import Fault, RequestError, unknown

if TYPE_CHECKING:
    from hfcompress.cli.options import Request, Verb
    from hfcompress.cli.output import Output


def with_underscores(name: str) -> str:
    """Return a method's name as it is registered: `bnb-nf4` stands for `bnb_nf4`."""
    return name.replace("-", "_")


MethodName = Annotated[str, AfterValidator(with_underscores)]
"""The type of the option that chooses a method."""


@dataclass
class MethodOptions:
    """What is compressed, and how."""

    model: Annotated[str, MinLen(1)] = option(help="the model: Hub id, folder or short name")
    method: MethodName | None = option(None, help="how: one of the methods below, or of `hfcompress list`")
    task: str | None = option(None, help="the task (default: what the model's architecture says)")
    seed: Seed = option(42, help="seed of everything random")


def run_method(request: Request, output: Output, name: str, **more: Any) -> None:
    """Build the recipe of one step that a verb's flags stand for, and run it.

    Args:
        request: The flags: `MethodOptions`, the method's config, data, output folder, what is shipped.
        output: Where the result goes.
        name: What the step's model is called.
        **more: What else the recipe says.

    Raises:
        RequestError: The flags are wrong; faults name flags.
    """
    from hfcompress.cli.options import as_flags
    from hfcompress.cli.recipes import run_recipe
    from hfcompress.pipeline.recipe import build_recipe

    options, config, data, place, ship = request.configs
    told = {key: value for key, value in dataclasses.asdict(config).items() if value not in (None, {}, [])}
    method = options.method.replace("-", "_")
    step = {method: {**told, **request.training}, "as": name}
    try:
        recipe = build_recipe(
            {
                "model": options.model,
                "task": options.task,
                "seed": options.seed,
                "data": dataclasses.asdict(data),
                "steps": [step],
                **more,
            }
        )
        run_recipe(recipe, place, output, ship=ship)
    except RequestError as error:
        raise as_flags(error, type(config), f"steps.0.{method}") from None


def with_method(verb: Verb, words: Sequence[str]) -> Verb:
    """Return a verb with the options of the method that the words name; as it is where they name none that exists."""
    if verb.family is None:
        return verb
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--method", nargs="?")
    chosen = (finder.parse_known_args(words)[0].method or verb.default_method or "").replace("-", "_")
    method = known_methods(verb).get(chosen)
    if method is None:
        return verb
    help = f"{verb.help}\n\n{chosen}: {method.help}"
    if verb.others is not None and chosen in verb.others.methods():
        return dataclasses.replace(
            verb, help=help, groups=verb.others.groups, method=dataclasses.replace(method, name=chosen)
        )
    first, *rest = verb.groups
    fields = [field.name for field in dataclasses.fields(method.config)]
    return dataclasses.replace(
        verb,
        help=help,
        groups=(first, method.config, *rest),
        takes_training="training" in fields,
        method=method,
    )


def known_methods(verb: Verb) -> dict[str, registry.Method]:
    """Return the methods that a verb's `--method` can choose, by name."""
    others = verb.others.methods() if verb.others is not None else {}
    return {**(registry.methods(verb.family) if verb.family is not None else {}), **others}


def require_method(verb: Verb, name: str | None) -> registry.Method:
    """Return the method of a verb that was chosen.

    Raises:
        RequestError: None was, or there is none of that name.
    """
    known = known_methods(verb)
    if name is None:
        raise RequestError(Fault("--method", "is missing.", f"Allowed: {', '.join(known)}."))
    if with_underscores(name) not in known:
        raise RequestError(unknown("method", name, known, "--method"))
    return known[with_underscores(name)]


def method_lines(name: str, verb: Verb) -> str:
    """Return what a verb's help says of the methods; nothing where it has none, or one is chosen."""
    if verb.family is None or verb.method is not None:
        return ""
    known = {"methods": registry.methods(verb.family)}
    if verb.others is not None:
        known[verb.others.title] = dict(verb.others.methods())
    width = max(len(one) for methods in known.values() for one in methods) + 2
    lines = ""
    for title, methods in known.items():
        lines += f"{title}:\n" + "".join(f"  {one:<{width}}{method.help}\n" for one, method in methods.items()) + "\n"
    return f"{lines}`hfcompress {name} --method NAME --help` shows the flags of one.\n\n"


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
    options = {
        name: _fields(method.config) for name, method in registry.methods(verb.family or verb.method.family).items()
    }
    training = {} if verb.takes_training else training_fields()
    own = options[chosen] if verb.method.config in verb.groups else [one for g in verb.groups for one in _fields(g)]
    takes = f"{chosen} takes {', '.join(map(flag, own))}."
    found = {}
    for name in names:
        having = [other for other, theirs in options.items() if name in theirs]
        if having:
            found[name] = Fault(flag(name), f"is an option of {_listed(having)}.", takes)
        elif name in training:
            found[name] = Fault(flag(name), f"is for training, and {chosen} does not train.", takes)
    return found


def _fields(config: type) -> list[str]:
    return [field.name for field in dataclasses.fields(config) if not field.metadata.get("recipe_only")]


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
