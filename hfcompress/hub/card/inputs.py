"""What a model card is written from: the config, the record and the measurements that lie in a model's folder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hfcompress.errors import Fault, ModelError, RequestError
from hfcompress.folders import RECORD
from hfcompress.hub.card.text import markdown, plain, scrub
from hfcompress.tasks import Task, find_task

MEASUREMENTS = "measurements.json"

_REPO_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}")


@dataclass(frozen=True)
class Row:
    """One measured model.

    Args:
        values: What was measured of it, as `measurements.json` holds it; anything may be missing.
    """

    values: Mapping[str, Any]

    @property
    def label(self) -> str:
        """What it is called, as Markdown: its name, with the runtime, and the precision where it is not float32."""
        precision = str(self.values.get("precision") or "float32")
        how = [str(self.values.get("runtime") or "PyTorch"), *([precision] if precision != "float32" else [])]
        return f"{markdown(self.values.get('name') or 'model')} ({markdown(', '.join(how))})"

    @property
    def quality(self) -> Mapping[str, Any]:
        """Metrics, the main one's name, its interval, and that of the difference from the first model."""
        return mapping(self.values.get("quality"))

    @property
    def main(self) -> float | None:
        """The main metric."""
        return number(mapping(self.quality.get("metrics")).get(self.quality.get("main", "")))

    @property
    def classes(self) -> dict[str, Mapping[str, Any]]:
        """Precision, recall, F1 and number of rows by class, where the task has classes."""
        return {str(one["label"]): one for one in entries(self.values.get("classes")) if "label" in one}

    def number(self, name: str) -> float | None:
        """Return a figure, or None where it was not measured."""
        return number(self.values.get(name))


@dataclass(frozen=True)
class CardInputs:
    """All that a card is written from.

    Args:
        name: What the model is called.
        repo_id: Where it is, or is going to be, on the Hub.
        task: Its task.
        config: `config.json`.
        record: `compression.json`.
        measurements: `measurements.json`; empty when there is none.
        files: Paths of the files beside, relative to the folder, sorted.
        mask_token: The tokenizer's, where it has one.
    """

    name: str
    repo_id: str
    task: Task
    config: Mapping[str, Any]
    record: Mapping[str, Any]
    measurements: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    mask_token: str = "[MASK]"  # noqa: S105

    @property
    def rows(self) -> list[Row]:
        """The measured models; the first is what the others are compared with."""
        models = entries(self.measurements.get("models"))
        return [Row(one) for one in models or entries(self.record.get("results"))]

    @property
    def shipped(self) -> list[Row]:
        """The measured models that are in this folder: neither the first nor what an earlier step made."""
        earlier = {"original", *(step.get("name") for step in self.steps[:-1])}
        return [row for row in self.rows[1:] if row.values.get("name") not in earlier] or self.rows[-1:]

    @property
    def steps(self) -> list[Mapping[str, Any]]:
        """What was done, in order."""
        return entries(self.record.get("steps"))

    @property
    def export(self) -> Mapping[str, Any]:
        """What is known of the ONNX files; empty when there are none."""
        return mapping(self.record.get("export"))

    @property
    def data(self) -> Mapping[str, Any]:
        """What is known of the data."""
        return mapping(self.record.get("data"))

    @property
    def onnx(self) -> list[str]:
        """Names of the files in `onnx/`."""
        return [
            file.removeprefix("onnx/") for file in self.files if file.startswith("onnx/") and file.endswith(".onnx")
        ]

    @property
    def labels(self) -> list[str]:
        """Names of the classes, where the task has any, in the order of their numbers."""
        known = self.data.get("labels") or list(mapping(self.config.get("id2label")).values())
        return [str(label) for label in known] if self.task.names_labels and isinstance(known, list) else []

    @property
    def main_metric(self) -> str:
        """The metric that comparisons use."""
        return str(next((row.quality["main"] for row in self.rows if "main" in row.quality), self.task.main_metric))


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a mapping, empty where there is something else."""
    return value if isinstance(value, Mapping) else {}


def entries(value: Any) -> list[Mapping[str, Any]]:
    """Return the mappings of a list, none where there is something else."""
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def number(value: Any) -> float | None:
    """Return a number, or None where there is something else."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def bounds(value: Any) -> tuple[float, float] | None:
    """Return an interval's two ends, or None where there is something else."""
    ends = [number(end) for end in value] if isinstance(value, (list, tuple)) else []
    return (ends[0], ends[1]) if len(ends) == 2 and ends[0] is not None and ends[1] is not None else None


def is_repo_id(text: Any) -> bool:
    """Say whether a text can be the id of a model or data set on the Hub: an owner and a name.

    Names without an owner, which the Hub had once, look like names of folders and do not count.
    """
    return isinstance(text, str) and bool(_REPO_ID.fullmatch(text)) and scrub(text) == text and ".." not in text


def read_inputs(folder: Path, repo_id: str | None = None, name: str | None = None) -> CardInputs:
    """Read what a folder says of its model.

    Args:
        folder: An output folder of hfcompress.
        repo_id: Where the model is going to be on the Hub.
        name: What it is called (default: the repository's name, or the folder's).

    Raises:
        ModelError: hfcompress did not make the folder, or a file in it is broken; every such file.
        RequestError: The record names a task that is not known, or `repo_id` is none.
    """
    if repo_id is not None and not is_repo_id(repo_id):
        raise RequestError(Fault("repo_id", f"takes an owner and a name, such as me/model, got '{repo_id}'."))
    if not folder.is_dir():
        raise ModelError(Fault(str(folder), "there is no such folder."))
    if not (folder / RECORD).is_file():
        fix = "Cards are written for folders that hfcompress made, for example with `hfcompress export --model …`."
        raise ModelError(Fault(str(folder), f"holds no {RECORD}, so nothing is known of how it was made.", fix))
    faults: list[Fault] = []
    config = _read(folder / "config.json", faults)
    record = _read(folder / RECORD, faults)
    measurements = _read(folder / MEASUREMENTS, faults) if (folder / MEASUREMENTS).is_file() else {}
    if faults:
        raise ModelError(*faults)
    called = plain(name or (repo_id or "").rpartition("/")[2] or _folder_name(folder), 96)
    task = find_task(str(record.get("task") or measurements.get("task") or ""))
    return CardInputs(
        called,
        repo_id or "your-name/" + (re.sub(r"[^A-Za-z0-9_.-]+", "-", called).strip("-.") or "model"),
        task,
        config,
        record,
        measurements,
        tuple(sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())),
        _mask_token(folder),
    )


def _folder_name(folder: Path) -> str:
    """Return a folder's name; a home folder's is its owner's, and no name for a model."""
    path = folder.resolve()
    return path.name if path.name and path != Path.home() else "model"


def _read(path: Path, faults: list[Fault]) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        faults.append(Fault(str(path), "there is no such file."))
    except (ValueError, OSError):
        faults.append(Fault(str(path), "is not a JSON file that can be read."))
    else:
        if isinstance(found, dict):
            return found
        faults.append(Fault(str(path), "does not hold a JSON object."))
    return {}


def _mask_token(folder: Path) -> str:
    settings = _read(folder / "tokenizer_config.json", [])
    token = settings.get("mask_token")
    token = token.get("content") if isinstance(token, Mapping) else token
    return token if isinstance(token, str) and len(token) <= 20 else "[MASK]"
