"""Where a model comes from: its base model on the Hub, and the license and languages that its source's card states."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hfcompress.errors import RequestError
from hfcompress.folders import RECORD
from hfcompress.hub.card.inputs import CardInputs, is_repo_id, mapping
from hfcompress.hub.card.text import scrub
from hfcompress.sources import PACKAGE_SCHEME, SHORT_NAMES, resolve

_LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]{0,60}")
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[A-Za-z0-9]{2,8})*|code|multilingual")


def source_card(source: str) -> dict[str, Any]:
    """Return what the card of a model says that models made from it inherit.

    Args:
        source: What the user typed: a folder, a Hub id, a short name, or `package:NAME/path`.

    Returns:
        `license` (and `license_name`, `license_link`), `language` as a list, and `base_model`: for a model on the
        Hub its own id, for a folder what its card or record names. What is not known is left out.
    """
    try:
        place = resolve(source)
    except RequestError:  # a package that was there when the model was made
        return {}
    if not Path(place).is_dir():
        return _inherited(_hub_readme(place)) | {"base_model": place} if is_repo_id(place) else {}
    found = _inherited(Path(place) / "README.md")
    made_from = _recorded_source(Path(place) / RECORD)
    if "base_model" not in found and made_from:
        found["base_model"] = made_from
    return found


def _hub_readme(repo_id: str) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(hf_hub_download(repo_id, "README.md"))
    except (OSError, ValueError, HfHubHTTPError):  # no network and not in the cache, no card, not ours to read
        return None


def _inherited(readme: Path | None) -> dict[str, Any]:
    """Return what of a card's front matter is inherited, as far as it is well formed."""
    from huggingface_hub import ModelCard

    if readme is None or not readme.is_file():
        return {}
    try:
        stated = ModelCard(readme.read_text(encoding="utf-8"), ignore_metadata_errors=True).data.to_dict()
    except Exception:  # anything may stand in a file that somebody else wrote
        return {}
    return checked(stated)


def checked(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a source card's metadata is well formed and safe to repeat."""
    found: dict[str, Any] = {}
    if isinstance(stated.get("license"), str) and _LICENSE.fullmatch(stated["license"]):
        found["license"] = stated["license"]
        for name in ("license_name", "license_link"):
            value = stated.get(name)
            if isinstance(value, str) and scrub(value) == value and re.fullmatch(r"[\w./:-]{1,200}", value):
                found[name] = value
    languages = stated.get("language")
    known = [
        one
        for one in ([languages] if isinstance(languages, str) else languages if isinstance(languages, list) else [])
        if isinstance(one, str) and _LANGUAGE.fullmatch(one)
    ]
    if known:
        found["language"] = known
    bases = stated.get("base_model")
    first = bases[0] if isinstance(bases, list) and len(bases) == 1 else bases
    if is_repo_id(first):
        found["base_model"] = first
    return found


def _recorded_source(path: Path) -> str | None:
    """Return the Hub id that a folder's own record names as its source."""
    try:
        source = mapping(mapping(json.loads(path.read_text(encoding="utf-8"))).get("source"))
    except (OSError, ValueError):
        return None
    return _hub_id(source)


def _hub_id(source: Mapping[str, Any]) -> str | None:
    """Return a recorded source's Hub id: only what came from the Hub has a revision."""
    return str(source["model"]) if "revision" in source and is_repo_id(source.get("model")) else None


def origin(inputs: CardInputs) -> dict[str, Any]:
    """Return the base model of the weights in this folder, and what it hands down.

    A student that started from its own checkpoint descends from that; a cut, or one with the teacher's or random
    weights, from the source.
    """
    for step in reversed(inputs.steps):
        settings = mapping(step.get("config"))
        student = settings.get("student")
        if student is None or settings.get("student_init", "pretrained") != "pretrained":
            continue
        if isinstance(student, Mapping):
            return checked(mapping(student.get("card")))
        if not str(student).startswith("cut:") and is_repo_id(SHORT_NAMES.get(str(student), str(student))):
            return source_card(SHORT_NAMES.get(str(student), str(student)))
    source = mapping(inputs.record.get("source"))
    recorded = source.get("card")
    if isinstance(recorded, Mapping):
        found = checked(recorded)
    else:
        name = str(source.get("model") or "")
        found = source_card(name) if name.startswith(PACKAGE_SCHEME) or _hub_id(source) else {}
    base = _hub_id(source)
    return found | {"base_model": base} if base else found
