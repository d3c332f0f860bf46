"""Strict configuration: plain dataclasses checked against what the user typed, every fault at once.

One declaration feeds command line, recipes, documentation and the JSON schema: a field's type (with `Annotated` bounds
from `annotated_types`) says what is allowed, its `help` metadata says what it is for. pydantic does the checking.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from hfcompress.errors import Fault, RequestError, closest

T = TypeVar("T")

_STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)
"""An option that takes an infinite number says so in its type: `Annotated[float, AllowInfNan()]`."""


def option(default: Any = dataclasses.MISSING, *, help: str, recipe_only: bool = False) -> Any:
    """Declare a config field with its help text; a list or dict default is copied for each instance.

    `recipe_only` keeps it from being a flag of the command line.
    """
    metadata = {"help": help, "recipe_only": recipe_only}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: default.copy(), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def checked_by(check: Callable[[Any], object]) -> AfterValidator:
    """Annotate a field's type with a function that raises `RequestError` when the value will not do.

    Its faults come together with those of the other fields. None is not checked.
    """

    def validate(value: Any) -> Any:
        if value is not None:
            check(value)
        return value

    return AfterValidator(validate)


def parse(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Build a config dataclass from what was typed; its own `check()`, if it has one, then looks across the fields.

    Args:
        cls: The dataclass.
        values: Its fields by name; hyphens count as underscores.
        where: Put before the field's name in each fault, for example `steps.0.distill`.

    Raises:
        RequestError: Unknown names (the nearest is offered), wrong types and values out of range, all of them.
    """
    tidy = {str(key).replace("-", "_"): value for key, value in values.items()}
    try:
        config = _adapter(cls).validate_python(tidy)
    except ValidationError as error:
        raise RequestError(*_faults(error, cls, where)) from None
    if hasattr(config, "check"):
        config.check()
    return config


def check_values(hints: Mapping[str, Any], values: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Convert loose values (from YAML or the command line) to the types that another library's dataclass declares.

    Args:
        hints: Type by field name.
        values: The values given; every key must be in `hints`.
        where: Put before the field's name in each fault.

    Raises:
        RequestError: Values of the wrong type, all of them.
    """
    checked: dict[str, Any] = {}
    faults: list[Fault] = []
    for name, value in values.items():
        try:
            checked[name] = TypeAdapter(hints[name], config=_STRICT).validate_python(value)
        except PydanticSchemaGenerationError:
            checked[name] = value
        except ValidationError as error:
            faults += _faults(error, None, f"{where}.{name}" if where else name)
    if faults:
        raise RequestError(*faults)
    return checked


def json_schema(cls: type) -> dict[str, Any]:
    """Return the JSON schema of a config dataclass, with the fields' help as descriptions."""
    schema = _adapter(cls).json_schema()
    _describe(schema, cls)
    return schema


def gather(*attempts: Any) -> list[Any]:
    """Call each function and return the results, or raise the faults of all that failed together.

    Raises:
        RequestError: At least one call raised one; holds the faults of all.
    """
    results: list[Any] = []
    faults: list[Fault] = []
    for attempt in attempts:
        try:
            results.append(attempt())
        except RequestError as error:
            faults += error.faults
    if faults:
        raise RequestError(*faults)
    return results


def _adapter(cls: type[T]) -> TypeAdapter[T]:
    if "__pydantic_config__" not in cls.__dict__:
        cls.__pydantic_config__ = _STRICT  # type: ignore[attr-defined]
    return TypeAdapter(cls)


def _faults(error: ValidationError, cls: type | None, where: str) -> list[Fault]:
    """Translate pydantic's errors; the branches of a union that all failed become one fault."""
    by_place: dict[str, Fault] = {}
    own: list[Fault] = []
    for item in error.errors(include_url=False):
        fault = _fault(item, cls, where)
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, RequestError):
            own += [dataclasses.replace(f, where=_deeper(fault.where, f.where)) for f in cause.faults]
            continue
        earlier = by_place.get(fault.where)
        if earlier is not None:
            so_far, more = earlier.problem.rsplit(", got ", 1)[0], fault.problem.removeprefix("input should be ")
            is_new = more.rsplit(", got ", 1)[0] not in so_far
            fault = Fault(fault.where, f"{so_far}, or {more}") if is_new else earlier
        by_place[fault.where] = fault
    return [*by_place.values(), *own]


def _deeper(place: str, inside: str) -> str:
    """Join the place of a field with the place that a check found inside it, without saying its name twice."""
    name = place.rpartition(".")[2]
    return f"{place}{inside.removeprefix(name)}" if inside.startswith(name) else place


def _fault(item: Any, cls: type | None, where: str) -> Fault:
    is_unknown_key = item["type"] in ("unexpected_keyword_argument", "extra_forbidden")
    typed = item["loc"][-1:] if is_unknown_key else ()
    path = [str(part) for part in item["loc"] if part in typed or not _is_union_tag(part)]
    place = ".".join([where, *path] if where else path)
    if is_unknown_key:
        names = _keys(cls, path[:-1])
        near = closest(path[-1], names) if path else None
        hint = f"Did you mean '{near}'?" if near else f"Allowed: {', '.join(names)}." if names else ""
        return Fault(place, "there is no such key.", hint)
    if item["type"] in ("missing", "missing_argument"):
        return Fault(place, "is missing.")
    message = str(item["msg"])
    return Fault(place, f"{message[0].lower()}{message[1:]}, got {item['input']!r}.")


def _keys(cls: type | None, path: list[str]) -> list[str]:
    """Return the field names of a dataclass, or of one nested in it."""
    for part in path:
        cls = get_type_hints(cls).get(part) if dataclasses.is_dataclass(cls) else None
    return [field.name for field in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else []


def _is_union_tag(part: object) -> bool:
    """Tell pydantic's names of union branches (`float`, `list[str]`) from the user's keys."""
    return isinstance(part, str) and (part in {"str", "int", "float", "bool"} or "[" in part or "(" in part)


def _describe(schema: dict[str, Any], cls: type) -> None:
    nested = schema.get("$defs", {})
    for field in dataclasses.fields(cls):
        if field.name in schema.get("properties", {}) and "help" in field.metadata:
            schema["properties"][field.name]["description"] = field.metadata["help"]
    for hint in get_type_hints(cls).values():
        for kind in (hint, *get_args(hint)):  # a dataclass, or one that may be left out
            if dataclasses.is_dataclass(kind) and isinstance(kind, type) and kind.__name__ in nested:
                _describe(nested[kind.__name__] | {"$defs": nested}, kind)
