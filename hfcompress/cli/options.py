"""From dataclasses to flags and back: argparse finds the words, the config module checks what they say."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from annotated_types import MinLen

from hfcompress.cli.methods import method_lines, misplaced, require_method, with_method
from hfcompress.cli.output import Output
from hfcompress.config import gather, option, parse
from hfcompress.errors import Fault, RequestError, closest
from hfcompress.registry import Method


@dataclass
class OutputOptions:
    """Where the result goes."""

    output_dir: Path = option(help="folder for the result; appears whole or not at all")
    overwrite: bool = option(False, help="replace an existing folder once the new one is complete")
    dry_run: bool = option(False, help="say what would be made and what it costs; write nothing")

    def check(self) -> None:
        """Look for a name that the result can take.

        Raises:
            RequestError: The folder is given as `.`, `..`, `/` or nothing.
        """
        if self.output_dir.name in ("", ".."):
            raise RequestError(Fault("output_dir", f"takes a folder with a name, got '{self.output_dir}'."))


@dataclass
class ShipOptions:
    """What else is made of the result."""

    export: Literal["onnx"] | None = option(None, help="`onnx`: write ONNX files, too, as `hfcompress export` does")
    push_to_hub: Annotated[str, MinLen(1)] | None = option(
        None, help="push the finished folder to this repository of the Hub (me/model), private unless --public"
    )
    public: bool = option(False, help="make the repository public, if it is new")


@dataclass(frozen=True)
class Request:
    """What the user typed, checked: one config a group, and TrainingArguments where the verb takes them."""

    configs: tuple[Any, ...]
    training: dict[str, Any]


@dataclass(frozen=True)
class Others:
    """Methods that are no steps of recipes, and have their flags in common.

    Args:
        title: What they do.
        methods: Returns them by name.
        groups: Take the place of the verb's groups where one of them is chosen.
    """

    title: str
    methods: Callable[[], Mapping[str, Method]]
    groups: tuple[type, ...]


@dataclass(frozen=True)
class Verb:
    """One verb of the command line.

    Args:
        help: One line.
        examples: Command lines that work.
        groups: Dataclasses whose fields are the flags; a field whose metadata says `positional` is none.
        run: Does the work.
        takes_training: Whether any TrainingArguments field is a flag too.
        family: Of methods, of which `--method` chooses one, whose options are then flags too.
        method: The chosen one; see `with_method`.
        default_method: The one that is chosen unless `--method` says otherwise.
        others: Methods that `--method` can choose beside those of the family.
    """

    help: str
    examples: tuple[str, ...]
    groups: tuple[type, ...]
    run: Callable[[Request, Output], None]
    takes_training: bool = False
    family: str | None = None
    method: Method | None = None
    default_method: str | None = None
    others: Others | None = None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise RequestError(Fault("", f"{message}.", f"See `{self.prog} --help`."))


def positional(*, help: str, many: bool = False) -> Any:
    """Declare a field that is given by its place; `many` takes all that is left."""
    metadata = {"help": help, "positional": "*" if many else "?"}
    if many:
        return dataclasses.field(default_factory=list, metadata=metadata)
    return dataclasses.field(default=None, metadata=metadata)


def read_arguments(name: str, verb: Verb, words: Sequence[str]) -> tuple[Request, Output]:
    """Parse and check a verb's words.

    Raises:
        RequestError: Unknown flags (the nearest is offered), missing ones, wrong values; all of them.
    """
    words = [_with_hyphens(word) for word in words]
    verb = with_method(verb, words)
    known, rest = build_parser(name, verb).parse_known_intermixed_args(words)
    given = {key: value for key, value in vars(known).items() if value is not None}
    output = Output(given.pop("json", False), given.pop("quiet", False))
    extra, faults = _loose_flags(rest)
    attempts: list[Callable[[], Any]] = [partial(_parse_group, group, given) for group in verb.groups]
    if verb.family is not None and verb.method is None:  # which flags there are depends on the method
        attempts.append(partial(require_method, verb, given.get("method")))
    else:
        attempts.append(partial(_read_extra, verb, extra, faults))
    *configs, training = gather(*attempts)
    return Request(tuple(configs), training), output


def build_parser(name: str, verb: Verb) -> argparse.ArgumentParser:
    """Build the parser of one verb; values stay text, the configs check them."""
    examples = "\n".join(f"  {example}" for example in verb.examples)
    more = "Any field of transformers' TrainingArguments is a flag too, such as --learning-rate 5e-5 or --bf16.\n\n"
    parser = _Parser(
        prog=f"hfcompress {name}",
        usage=f"hfcompress {name} [options]",
        description=verb.help,
        epilog=f"{more if verb.takes_training else ''}{method_lines(name, verb)}examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for group in verb.groups:
        title = (group.__doc__ or "").strip().split("\n")[0].rstrip(".")
        if verb.method is not None and group is verb.method.config:
            title = f"Options of {name} --method {verb.method.name}"
        section = parser.add_argument_group(title)
        for field in _flags_of(group):
            _add_field(section, field, get_type_hints(group)[field.name])
    shared = parser.add_argument_group("Output")
    shared.add_argument("--json", action="store_true", default=None, help="print the result as JSON")
    shared.add_argument("--quiet", action="store_true", default=None, help="print nothing but the result and errors")
    return parser


def flag(field_name: str) -> str:
    """Return the flag of a field.

    Example:
        >>> flag("text_column")
        '--text-column'
    """
    return "--" + field_name.replace("_", "-")


def _flags_of(group: type) -> list[dataclasses.Field]:
    return [field for field in dataclasses.fields(group) if not field.metadata.get("recipe_only")]


def _add_field(section: Any, field: dataclasses.Field, hint: Any) -> None:
    text = field.metadata.get("help", "")
    place = field.metadata.get("positional")
    if place:
        section.add_argument(field.name, nargs=place, default=None, help=text)
    elif hint is bool and field.default is True:
        section.add_argument(flag(field.name), action=argparse.BooleanOptionalAction, default=None, help=text)
    elif hint is bool:
        section.add_argument(flag(field.name), action="store_const", const="true", default=None, help=text)
    elif _is_list(hint):
        section.add_argument(
            flag(field.name), action="append", default=None, metavar="…", help=f"{text} (repeat, or separate by commas)"
        )
    elif _is_mapping(hint):
        section.add_argument(flag(field.name), action="append", default=None, metavar="NAME=VALUE", help=text)
    else:
        section.add_argument(flag(field.name), default=None, metavar="…", help=_with_default(text, field))


def _with_default(text: str, field: dataclasses.Field) -> str:
    if field.default in (dataclasses.MISSING, None, "") or "default" in text:
        return text.replace("%", "%%")
    return f"{text} (default: {field.default})".replace("%", "%%")


def _is_list(hint: Any) -> bool:
    first = get_args(hint)[0] if type(None) in get_args(hint) else hint  # list[int] | None
    return get_origin(first) is list


def _is_mapping(hint: Any) -> bool:
    return str(hint).startswith("dict[str, str")


def _parse_group(group: type, given: dict[str, Any]) -> Any:
    hints = get_type_hints(group)
    names = {field.name: "positional" in field.metadata for field in _flags_of(group)}
    values = {name: _read_value(hints[name], given[name], name) for name in names if name in given}
    try:
        return parse(group, values)
    except RequestError as error:
        raise RequestError(*(f if names.get(f.where) else _as_flag(f) for f in error.faults)) from None


def as_flags(error: RequestError, config: type, place: str) -> RequestError:
    """Word the faults of a step's options as those of flags; others stay as they are.

    Args:
        error: Holds them.
        config: The step's; its fields are flags.
        place: Where the step stands in its recipe, such as `steps.0.fisher`.
    """
    names = {field.name for field in _flags_of(config)}
    short = [dataclasses.replace(fault, where=fault.where.removeprefix(f"{place}.")) for fault in error.faults]
    return RequestError(*(_as_flag(fault) if fault.where.partition(".")[0] in names else fault for fault in short))


def _as_flag(fault: Fault) -> Fault:
    """Word a fault of a config field as one of its flag."""
    name, dot, rest = fault.where.partition(".")
    if rest or "no such key" not in fault.problem:
        return dataclasses.replace(fault, where=f"{flag(name)}{dot}{rest}")
    fix = re.sub(r"(?<=Did you mean ')\w+(?='\?)", lambda found: flag(found[0]), fault.fix)
    return Fault(flag(name), "there is no such flag.", fix)


def _read_value(hint: Any, value: Any, name: str) -> Any:
    if not isinstance(value, list):
        return value
    if _is_mapping(hint):
        wrong = [text for text in value if "=" not in text]
        if wrong:
            raise RequestError(Fault(flag(name), f"takes NAME=VALUE, got '{wrong[0]}'."))
        return dict(text.split("=", 1) for text in value)
    return [part for text in value for part in text.split(",")] if _is_list(hint) and name != "overrides" else value


def _with_hyphens(word: str) -> str:
    """Let --text_column stand for --text-column."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value


def _loose_flags(words: Sequence[str]) -> tuple[dict[str, str], list[Fault]]:
    """Read `--name value`, `--name=value` and `--name` out of the words that argparse did not know."""
    flags: dict[str, str] = {}
    faults: list[Fault] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if not word.startswith("--"):
            faults.append(Fault(word, "is not expected here."))
            continue
        name, equals, value = word[2:].partition("=")
        if not equals:
            value = left.pop(0) if left and not left[0].startswith("--") else "true"
        flags[name.replace("-", "_")] = value
    return flags, faults


def _read_extra(verb: Verb, extra: dict[str, str], faults: list[Fault]) -> dict[str, Any]:
    """Take unknown flags for TrainingArguments fields, where the verb has them."""
    own = [field.name for group in verb.groups for field in _flags_of(group)]
    training: dict[str, Any] = {}
    foreign = misplaced(verb, extra) if extra else {}
    faults = [*faults, *foreign.values()]
    extra = {name: value for name, value in extra.items() if name not in foreign}
    if verb.takes_training and extra:
        from hfcompress.training.options import read_training

        try:
            training = read_training(extra, own)
        except RequestError as error:
            faults += map(_as_flag, error.faults)
    else:
        for name in extra:
            near = closest(name, own)
            hint = (
                f"Did you mean '{flag(near)}'?" if near else f"Allowed: {', '.join(map(flag, own))}, --json, --quiet."
            )
            faults.append(Fault(flag(name), "there is no such flag.", hint))
    if faults:
        raise RequestError(*faults)
    return training
