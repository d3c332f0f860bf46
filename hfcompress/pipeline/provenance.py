"""`compression.json`: what a model was made from, by which steps, on which machine, and what that gave."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from hfcompress.folders import refuse_existing, refuse_foreign, refuse_inputs_inside
from hfcompress.modeling.shapes import is_shape
from hfcompress.sources import is_local, resolve, sha256

_NUMBERS = re.compile(r"\[\n([\s\d.,eE+-]+)\]")
"""A list of numbers over several lines, which no text in JSON has."""


def source_record(source: str) -> dict[str, Any]:
    """Identify a model: what was typed (a folder's name alone), and the weights' digest or the Hub's revision."""
    if is_shape(source):
        return {"model": source}
    place = Path(resolve(source))
    if is_local(str(place)):
        files = sorted(place.glob("*.safetensors"))
        shown = source if not Path(source).exists() else place.resolve().name
        return {"model": shown, "sha256": {file.name: sha256(file) for file in files}}
    return {"model": str(place), "revision": _hub_revision(str(place))}


def _hub_revision(repo_id: str) -> str | None:
    """Return the commit that the cached config came from."""
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(repo_id, "config.json")
    return Path(cached).parent.name if isinstance(cached, str) else None


def without_paths(settings: Mapping[str, Any], earlier: Collection[str] = ()) -> dict[str, Any]:
    """Identify what a step's settings name on this machine: models by name and digest, files by name.

    Args:
        settings: Value by option.
        earlier: Names of the recipe's steps, which are no folders.
    """

    def shown(name: str, value: Any) -> Any:
        if isinstance(value, list):
            return [shown(name, one) for one in value]
        if not isinstance(value, str):
            return value
        if name in ("student", "teacher") and value not in earlier and Path(resolve(value)).is_dir():
            return source_record(value)
        return Path(value).name if Path(value).is_absolute() else value

    return {name: shown(name, value) for name, value in settings.items()}


def fingerprint(*parts: Any) -> str:
    """Return twelve hexadecimal digits that change when any part does; parts are anything JSON can hold."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def refuse_output(output_dir: Path, overwrite: bool, inputs: Any = ()) -> None:
    """Make sure that the result may be put there, and that nothing but an earlier result is replaced.

    Args:
        output_dir: Where the result goes.
        overwrite: Whether an earlier result may be replaced.
        inputs: What the run reads: strings and paths, in lists, mappings and dataclasses; what is no path does not
            matter.

    Raises:
        OutputExistsError: It exists and is not to be replaced, or holds something else or an input, or cannot be
            written.
    """
    refuse_existing(output_dir, overwrite)
    refuse_foreign(output_dir)
    refuse_inputs_inside(output_dir, inputs)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all; lists of numbers stand in one line."""
    partial = path.with_name(path.name + ".partial")
    text = _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", json.dumps(values, indent=2, default=str))
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)
