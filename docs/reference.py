"""Writes the pages that say what the code says: losses, tasks, command line, recipes, results."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import inspect
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import equations
import yaml

ROOT = Path(__file__).parents[1]
REPOSITORY = "https://github.com/hfcompress/hfcompress/blob/main"
_END_OF_TEXT = re.compile(r"\n\s*(Args|Returns|Raises|Example|Attributes|Yields):\n")


def pages() -> dict[str, str]:
    """Return the generated pages by their path."""
    return {
        "losses.md": losses(),
        **results(),
        "reference/tasks.md": tasks(),
        "reference/cli.md": command_line(),
        "reference/recipes.md": recipes(),
    }


def losses() -> str:
    """Every loss and every layer map: what it is, its equation and source, its options."""
    from hfcompress import registry

    introduction = f"""# Losses

One section a loss: its equation, where it comes from, and its options. Which to choose:
[Distillation](guide/distillation.md). A loss of your own is a config, a class and a name:
[`examples/custom_loss.py`]({REPOSITORY}/examples/custom_loss.py).

Subscript S is the student, T the teacher. A loss gives one value a row of logits, a token, or a text. What is minimised
is the weighted sum of their means over all rows (or tokens, or texts) of a step, all its micro-batches and processes.
Padding never counts.
"""
    found = registry.methods("loss")
    overview = _table(["loss", "what it is", "one value a"], [_loss_row(name, m) for name, m in found.items()])
    parts = [introduction, overview, *(_method(name, method) for name, method in found.items())]
    maps = registry.methods("layer_map")
    parts.append(
        "## Layer maps\n\nWhich hidden states losses on layers compare. Hidden state 0 is the embeddings, "
        "hidden state i "
        "the output of layer i. M is the number of the student's layers, N that of the teacher's. Pairs of your own "
        "are written as student:teacher, `--layer-map 1:2,3:6`."
    )
    parts += [_method(name, method) for name, method in maps.items()]
    return _page(parts)


def tasks() -> str:
    """Every task: its columns, metrics and classes."""
    from hfcompress.tasks import TASKS

    parts = ["# Tasks\n\nEach with a command: [guide](../guide/tasks.md)."]
    for name, task in TASKS.items():
        facts = {
            "model class": f"`{task.auto_model}`",
            "ONNX Runtime class": f"`{task.ort_model}`",
            "main metric": f"`{task.main_metric}`",
            "distilled by default": f"[`{task.default_loss}`](../losses.md#{task.default_loss})",
            "teacher with other tokens": "yes" if task.foreign_teachers else "no",
        }
        columns = [
            [f"`{_column_flag(column.ours)}`", ", ".join(map(_code, column.usual)), "yes" if column.required else "no"]
            for column in task.columns
        ]
        parts += [
            f"## {name}",
            _docstring(type(task)),
            _table(["", ""], [list(fact) for fact in facts.items()]),
            _table(["column", "found by itself when called", "required"], columns),
        ]
    return _page(parts)


def command_line() -> str:
    """Every verb: what it does, its flags and examples."""
    from hfcompress import registry
    from hfcompress.cli.main import VERBS, usage
    from hfcompress.cli.options import build_parser

    parts = [f"# Command line\n\n```text\n{usage()}\n```"]
    for name in VERBS:
        verb = importlib.import_module(f"hfcompress.cli.{name}").VERB
        examples = "\n".join(verb.examples)
        parts += [f"## {name}", verb.help, f"```bash\n{examples}\n```"]
        if verb.takes_training:
            parts.append(
                "Any field of transformers' `TrainingArguments` is a flag too, such as `--learning-rate 5e-5` or "
                "`--bf16`. [What is set unless you say otherwise](recipes.md#training)."
            )
        if verb.family:
            found = registry.methods(verb.family)
            rows = [[f"`--method {one}`", m.help, f"[options](recipes.md#{one})"] for one, m in found.items()]
            parts += [
                f"A method's options are flags too; `hfcompress {name} --method NAME --help` shows them. "
                "Of those that train, any field of `TrainingArguments` is one as well.",
                _table(["method", "what it does", ""], rows),
            ]
        for group in build_parser(name, verb)._action_groups:
            rows = [_flag_row(action) for action in group._group_actions if action.dest != "help"]
            if rows:
                parts += [f"**{group.title}**", _table(["flag", "what it says"], rows)]
    return _page(parts)


def recipes() -> str:
    """What a recipe file may say, and every recipe that the package ships."""
    from hfcompress import registry
    from hfcompress.data import DataConfig
    from hfcompress.pipeline.recipe import Recipe, recipe_schema, shipped_recipes
    from hfcompress.training.options import DEFAULTS

    schema = recipe_schema()
    parts = [
        "# Recipes\n\nA recipe is a YAML file that says model, data, and what to do with them in order. "
        "`hfcompress run NAME_OR_FILE key=value …` runs it; `hfcompress run --schema` prints the JSON schema that "
        "editors complete and check recipes with.",
        "## Keys",
        _options(Recipe, schema["required"]),
        "## data",
        _options(DataConfig, schema["$defs"]["DataConfig"]["required"]),
        "## Steps",
    ]
    for name, method in registry.steps().items():
        parts += [f"### {name}", _docstring(method.target), _options(method.config)]
    defaults = [[_code(name), _code(value)] for name, value in DEFAULTS.items()]
    parts += [
        "## training",
        "What a step trains with unless told otherwise; other `TrainingArguments` are as transformers has them.",
        _table(["field", "value"], defaults),
        "## Shipped recipes",
    ]
    for name, path in shipped_recipes().items():
        text = path.read_text(encoding="utf-8")
        comment = re.match(r"(?:#.*\n)*", text)[0]
        said = " ".join(line.lstrip("# ") for line in comment.splitlines())
        body = text[len(comment) :]
        description = yaml.safe_load(body).get("description", "")
        parts += [f"### {name}", description, said, f"```yaml\n{body.strip()}\n```"]
        parts.append(f"```bash\nhfcompress run {name} --output-dir out\n```")
    return _page(parts)


def results() -> dict[str, str]:
    """The tables of the committed benchmark results, and their plots."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import docs_tables

    return {"results.md": docs_tables.page(), **docs_tables.plots()}


def presets() -> str:
    """The table of presets."""
    from hfcompress.modeling.presets import PRESETS, preset_config
    from hfcompress.sources import SHORT_NAMES

    rows = []
    for name in PRESETS:
        config = preset_config(name)
        sizes = [getattr(config, field, "") for field in ("num_hidden_layers", "hidden_size")]
        rows.append([_code(name), config.model_type, *sizes, _code(SHORT_NAMES[name])])
    return _table(["preset", "family", "layers", "width", "checkpoint"], rows)


TABLES = {"presets": presets}
"""Tables that stand inside a written page, where it says `<!-- NAME -->`."""


def _loss_row(name: str, method: Any) -> list[str]:
    return [f"[`{name}`](#{name})", method.help, getattr(method.target, "unit", "label")]


def _method(name: str, method: Any) -> str:
    place = Path(inspect.getsourcefile(method.target) or "").relative_to(ROOT).as_posix()
    source = f"[Source]({REPOSITORY}/{place})"
    return _page([f"## {name}", _docstring(method.target), _options(method.config), source])


def _docstring(target: Any) -> str:
    text = inspect.cleandoc(target.__doc__ or "")
    return "\n\n".join(map(equations.markdown, _END_OF_TEXT.split("\n" + text)[0].strip("\n").split("\n\n")))


def _options(config: type, required: Sequence[str] = ()) -> str:
    """A table of a config's fields; nothing where there are none."""
    rows = [
        [_code(field.name), _default(field, field.name in required), field.metadata.get("help", "")]
        for field in dataclasses.fields(config)
    ]
    return _table(["option", "default", "what it says"], rows) if rows else ""


def _default(field: dataclasses.Field, required: bool) -> str:
    if required:
        return "required"
    if field.default_factory is not dataclasses.MISSING:
        return _code(field.default_factory())
    return "" if field.default in (None, dataclasses.MISSING, "") else _code(field.default)


def _flag_row(action: argparse.Action) -> list[str]:
    name = " ".join(map(_code, action.option_strings)) or _code(action.dest.upper())
    return [name, (action.help or "").replace("%%", "%")]


def _column_flag(ours: str) -> str:
    return "--label-column" if ours == "labels" else f"--{ours.replace('_', '-')}-column"


def _code(value: object) -> str:
    return f"`{value}`"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = [list(heads), ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", r"\|") for cell in row) + " |" for row in cells)


def _page(parts: Iterable[str]) -> str:
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"
