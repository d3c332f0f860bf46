"""The model card: `README.md` of an output folder, written from what was recorded and measured there."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfcompress.errors import Fault, OutputExistsError
from hfcompress.hub.card import classes, history, limits, results, usage
from hfcompress.hub.card.inputs import MEASUREMENTS, CardInputs, mapping, read_inputs
from hfcompress.hub.card.metadata import card_data
from hfcompress.hub.card.origin import origin
from hfcompress.hub.card.text import markdown

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

__all__ = ["CARD", "build_card", "is_ours", "write_card"]

CARD = "README.md"

_TEMPLATE = Path(__file__).parent / "template.md"
_MARK = "<!-- Written by hfcompress; SHA-256 of the text above: {} -->"
_MARK_LINE = re.compile(r"\n*<!-- Written by hfcompress; SHA-256 of the text above: ([0-9a-f]{64}) -->\n*$")


def build_card(folder: Path, repo_id: str | None = None, name: str | None = None) -> ModelCard:
    """Build the card of an output folder; the same contents give the same card.

    Args:
        folder: An output folder of hfcompress.
        repo_id: Where the model is going to be on the Hub, for the snippets.
        name: What the model is called (default: the repository's name, or the folder's).

    Raises:
        ModelError: hfcompress did not make the folder, or a file in it is broken.
        RequestError: The record names a task that is not known.
    """
    from huggingface_hub import ModelCard

    inputs = read_inputs(Path(folder), repo_id, name)
    handed_down = origin(inputs)
    data = card_data(inputs, handed_down)
    made = ModelCard.from_template(
        data, template_str=_TEMPLATE.read_text(encoding="utf-8"), **_parts(inputs, handed_down)
    )
    made.text = re.sub(r"\n{3,}", "\n\n", made.text)
    return made


def write_card(folder: Path, repo_id: str | None = None, name: str | None = None, overwrite: bool = False) -> Path:
    """Write the card of an output folder; one that somebody edited or wrote is left alone.

    Args:
        folder: An output folder of hfcompress.
        repo_id: Where the model is going to be on the Hub, for the snippets.
        name: What the model is called (default: the repository's name, or the folder's).
        overwrite: Replace an edited card, too.

    Returns:
        The card's path.

    Raises:
        OutputExistsError: There is a card that hfcompress did not write, or that was edited since.
        ModelError: hfcompress did not make the folder, or a file in it is broken.
        RequestError: The record names a task that is not known.
    """
    path = Path(folder) / CARD
    text = str(build_card(folder, repo_id, name)).rstrip("\n") + "\n"
    if path.exists() and not overwrite and not is_ours(path):
        problem = "is not replaced: hfcompress did not write it, or somebody has edited it since."
        raise OutputExistsError(Fault(str(path), problem, "Pass --overwrite to lose what it says, or move it away."))
    partial = path.with_name(path.name + ".partial")
    partial.write_text(f"{text}\n{_MARK.format(_digest(text))}\n", encoding="utf-8", newline="\n")
    partial.replace(path)
    return path


def is_ours(path: Path) -> bool:
    """Say whether a card is as hfcompress wrote it."""
    try:
        text = path.read_text(encoding="utf-8")  # reads Windows' line ends as ours
    except (OSError, UnicodeDecodeError):
        return False
    mark = _MARK_LINE.search(text)
    return mark is not None and mark[1] == _digest(text[: mark.start()])


def _digest(text: str) -> str:
    return hashlib.sha256(text.rstrip("\n").encode()).hexdigest()


def _parts(inputs: CardInputs, handed_down: dict[str, Any]) -> dict[str, Any]:
    """Return what the template shows: every part is Markdown, made safe where it was made."""
    base = handed_down.get("base_model")
    return {
        "name": markdown(inputs.name, 100),
        "task": inputs.task.name,
        "description": markdown(inputs.record.get("description") or "", 600),
        "source": history.source(inputs, base),
        "summary": results.summary(inputs),
        "results": results.results_table(inputs),
        "how_measured": results.how_measured(inputs),
        "latencies": results.latencies_table(inputs),
        "figures": _figures(inputs),
        "grown": results.grown(inputs),
        "classes": classes.class_table(inputs),
        "class_note": classes.class_note(inputs),
        "confusions": classes.confusions(inputs),
        "transformers": usage.transformers_snippet(inputs),
        "optimum": usage.optimum_snippet(inputs),
        "javascript": usage.javascript_snippet(inputs),
        "steps": history.steps(inputs),
        "export": history.export(inputs),
        "recipe": history.recipe(inputs),
        "recipe_note": history.recipe_note(inputs),
        "seed": markdown(inputs.record.get("seed", "?"), 30),
        "structure": history.structure(inputs),
        "data": limits.data_statistics(inputs),
        "intended_use": limits.intended_use(inputs),
        "limits": limits.limits(inputs, handed_down.get("language", [])),
        "license": handed_down.get("license"),
        "environment": history.environment(inputs),
        "emissions": history.emissions(inputs),
        "has_measurements": bool(mapping(inputs.measurements)) and MEASUREMENTS in inputs.files,
        "has_report": "report.html" in inputs.files,
    }


def _figures(inputs: CardInputs) -> list[dict[str, str]]:
    """Return the figures beside the card, with what they show taken from their names."""
    return [
        {"file": file, "text": file.removeprefix("figures/").removesuffix(".png").replace("_", " ").replace("-", " ")}
        for file in inputs.files
        if re.fullmatch(r"figures/[\w.-]+\.png", file)
    ]
