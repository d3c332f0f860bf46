"""Verbs whose flags depend on a method: `--method fisher` makes that method's options flags."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from hfcompress import registry
from hfcompress.errors import Fault, RequestError, unknown

if TYPE_CHECKING:
    from hfcompress.cli.options import Verb


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
