"""The recipe: a YAML file that says model, data, and what to do with them in order."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml

from hfcompress import registry
from hfcompress.config import checked_by, gather, json_schema, option, parse
from hfcompress.context import Seed
from hfcompress.data import DataConfig
from hfcompress.errors import Fault, RequestError, closest, unknown
from hfcompress.export.config import ExportConfig
from hfcompress.pipeline.read_yaml import read_yaml
from hfcompress.tasks import find_task

T = TypeVar("T")

_PLACES = (Path(__file__).parents[1] / "recipes", Path(__file__).parents[2] / "recipes")
"""Where recipes lie: inside an installed package, or beside it in a checkout."""

ORIGINAL = "original"
"""What the starting model is called in tables; no step may take the name."""


def _check_packed(name: str) -> None:
    if not re.fullmatch(r"\w[\w.-]*\.hfz", name):
        problem = f"takes the name of a file in the output folder, such as model.hfz, got {name!r}."
        raise RequestError(Fault("", problem))


@dataclass
class Recipe:
    """What a recipe file says."""

    model: str = option(help="the model to start from: Hub id, folder, short name, or package:NAME/path")
    data: DataConfig = option(help="the data, with the options of the data flags")
    steps: list[dict[str, Any]] = option(
        help="the steps in order: `- METHOD: {options}`, with `as: NAME` beside to name its model"
    )
    task: str | None = option(None, help="the task (default: what the model's architecture says)")
    seed: Seed = option(42, help="seed of everything random")
    export: ExportConfig | None = option(None, help="ONNX files of the last step's model; `{}` for the defaults")
    pack: Annotated[str, checked_by(_check_packed)] | None = option(
        None, help="name of a .hfz file beside the last step's model: the checkpoint in as few bytes as its entropy"
    )
    description: str = option("", help="one sentence on what the recipe is for")
    checksums: dict[str, str] = option({}, help="SHA-256 that files must have, by source")
    keep_steps: bool = option(False, help="keep the earlier steps' models in the output folder, under steps/")


@dataclass(frozen=True)
class Step:
    """One step: a method with its config.

    Args:
        method: The registered method.
        config: Its checked config.
        name: What the step's model is called in tables, and by later steps.
    """

    method: registry.Method
    config: Any
    name: str

    def settings(self) -> dict[str, Any]:
        """Return the config without what was left at its default."""
        defaults = {field.name: field.default for field in dataclasses.fields(self.config)}
        values = {
            name: value
            for name, value in dataclasses.asdict(self.config).items()
            if value not in (defaults[name], {}, [])
        }
        return {**values.pop("training", {}), **values}


def find_recipe(name: str) -> Path:
    """Return the path of a recipe: a file, or the name of one that the package ships.

    Raises:
        RequestError: There is none; the nearest is offered.
    """
    if Path(name).is_file():
        return Path(name)
    shipped = shipped_recipes()
    if name.removesuffix(".yaml") in shipped:
        return shipped[name.removesuffix(".yaml")]
    raise RequestError(unknown("recipe", name, shipped))


def shipped_recipes() -> dict[str, Path]:
    """Return the recipes that the package ships, by name."""
    folder = next((place for place in _PLACES if place.is_dir()), None)
    return {path.stem: path for path in sorted(folder.glob("*.yaml"), key=lambda path: path.stem)} if folder else {}


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file.

    Args:
        path: The file.
        overrides: `key=value`, dots lead inside: `data.max_train_samples=100`, `steps.0.finetune.num_train_epochs=1`.

    Raises:
        RequestError: It is not YAML, or says something that is not allowed; all faults.
    """
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RequestError(Fault(str(path), f"is not valid YAML: {' '.join(str(error).split())}")) from None
    if not isinstance(values, dict):
        raise RequestError(Fault(str(path), "is not a recipe: it must hold keys such as model, data and steps."))
    gather(*(partial(_override, values, text) for text in overrides))
    return build_recipe(values)


def build_recipe(values: Mapping[str, Any]) -> Recipe:
    """Check what a recipe says, its steps included.

    Raises:
        RequestError: All faults.
    """
    raw_steps = values.get("steps")
    steps = raw_steps if isinstance(raw_steps, list) else []
    found = gather(lambda: parse(Recipe, values), *(partial(read_step, raw, i) for i, raw in enumerate(steps)))
    recipe = found[0]
    if not recipe.steps:
        raise RequestError(
            Fault("steps", "is empty: there is nothing to do.", f"Methods: {', '.join(registry.steps())}.")
        )
    if recipe.task is not None:
        find_task(recipe.task)
    return recipe


def read_steps(recipe: Recipe) -> list[Step]:
    """Return a checked recipe's steps; steps without a name are called by their method, numbered if need be."""
    steps = [read_step(raw, index) for index, raw in enumerate(recipe.steps)]
    names = [step.name for step in steps]
    return [
        dataclasses.replace(step, name=f"{step.name}-{index + 1}") if names.count(step.name) > 1 else step
        for index, step in enumerate(steps)
    ]


@contextmanager
def step_named(steps: Sequence[Step], index: int) -> Iterator[None]:
    """Name the step, where there are several, in what is wrong while the block runs."""
    try:
        yield
    except RequestError as error:
        if len(steps) == 1:
            raise
        options = {field.name for field in dataclasses.fields(steps[index].config)}
        raise error.inside(f"steps.{index}.{steps[index].method.name}", options) from error


def read_step(raw: Any, index: int) -> Step:
    """Read one step: `{METHOD: {options}}`, perhaps with `as`.

    Raises:
        RequestError: It is not of that form, or method or options do not exist; all faults.
    """
    where = f"steps.{index}"
    if not isinstance(raw, Mapping) or len(set(raw) - {"as"}) != 1:
        raise RequestError(
            Fault(where, f"takes one method with its options, got {raw!r}.", "Write `- METHOD: {options}`.")
        )
    known = registry.steps()
    name = next(key for key in raw if key != "as")
    if name not in known:
        raise RequestError(unknown("method", str(name), known, where))
    options = raw[name] or {}
    if not isinstance(options, Mapping):
        raise RequestError(Fault(f"{where}.{name}", f"takes options by name, got {options!r}."))
    method = known[name]
    called, config = gather(
        lambda: _step_name(str(raw.get("as", name)), f"{where}.as"),
        lambda: parse_step(method, options, f"{where}.{name}"),
    )
    return Step(method, config, called)


def _step_name(name: str, where: str) -> str:
    """Check what a step's model is to be called; folders are named after it.

    Raises:
        RequestError: It is more than letters, digits, `_`, `.` and `-`, or taken.
    """
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise RequestError(Fault(where, f"takes letters, digits, _, . and -, got {name!r}."))
    if name == ORIGINAL:
        raise RequestError(Fault(where, f"'{name}' is what the starting model is called.", "Choose another name."))
    return name


def parse_step(method: registry.Method, options: Mapping[str, Any], where: str = "") -> Any:
    """Check a method's options; those that it does not have itself are TrainingArguments fields, if it trains.

    Raises:
        RequestError: All faults.
    """
    from hfcompress.training.options import read_training

    own = [field.name for field in dataclasses.fields(method.config)]
    if "training" not in own:
        return _placed(where, lambda: parse(method.config, options, where))
    tidy = {str(key).replace("-", "_"): value for key, value in options.items()}
    nested = tidy.pop("training", {})
    if not isinstance(nested, Mapping):
        raise RequestError(Fault(f"{where}.training", f"takes options by name, got {nested!r}."))
    given = {**nested, **{key: tidy.pop(key) for key in list(tidy) if key not in own}}
    config, training = gather(
        lambda: _placed(where, lambda: parse(method.config, tidy, where)), lambda: read_training(given, own, where)
    )
    config.training = training
    if training and hasattr(config, "check"):  # now that all of it is there
        _placed(where, config.check)
    return config


def _placed(where: str, attempt: Callable[[], T]) -> T:
    """Call a function; a config's own checks do not know where in the recipe it stands."""
    try:
        return attempt()
    except RequestError as error:
        known = (
            f if f.where.startswith(where) else dataclasses.replace(f, where=f"{where}.{f.where}") for f in error.faults
        )
        raise RequestError(*known) from None


def recipe_schema() -> dict[str, Any]:
    """Return the JSON schema of recipe files, for editors."""
    schema = json_schema(Recipe)
    options = {name: _step_schema(method) for name, method in registry.steps().items()}
    for step in options.values():
        schema["$defs"] |= step.pop("$defs", {})  # references count from the top
    schema["properties"]["steps"]["items"] = {
        "type": "object",
        "properties": {**options, "as": {"type": "string", "description": "name of the step's model"}},
        "additionalProperties": False,
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _step_schema(method: registry.Method) -> dict[str, Any]:
    schema = json_schema(method.config)
    if "training" in schema["properties"]:
        schema["additionalProperties"] = True
    return {**schema, "description": method.help}


def _override(values: Any, text: str) -> None:
    """Set one `a.b.0.c=value` inside nested mappings and lists."""
    path, equals, raw = text.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise RequestError(Fault(text, "is not of the form key=value."))
    place = values
    for depth, key in enumerate(keys[:-1]):
        place = _enter(place, key, ".".join(keys[: depth + 1]))
    last = keys[-1]
    try:
        value = yaml.safe_load(raw) if raw else ""
    except yaml.YAMLError:
        raise RequestError(Fault(path, f"is not given valid YAML: {raw}")) from None
    if isinstance(place, list):
        place[_index(place, last, path)] = value
    else:
        place[last] = value


def _enter(place: Any, key: str, path: str) -> Any:
    if isinstance(place, list):
        inside = place[_index(place, key, path)]
        if not isinstance(inside, (dict, list)):
            raise RequestError(Fault(path, "has nothing inside to set."))
        return inside
    if isinstance(place.get(key), (dict, list)):
        return place[key]
    if place.get(key) is None and closest(key, place) in (None, key):
        place[key] = {}
        return place[key]
    near = closest(key, [name for name in place if name != key])
    raise RequestError(Fault(path, "has nothing inside to set.", f"Did you mean '{near}'?" if near else ""))


def _index(place: list[Any], key: str, path: str) -> int:
    if not key.isdigit() or int(key) >= len(place):
        raise RequestError(Fault(path, f"takes a position from 0 to {len(place) - 1}, got '{key}'."))
    return int(key)
