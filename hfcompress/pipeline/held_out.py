"""Rows that a model is scored on, and was made with in an earlier run that held out others."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hfcompress.data import TaskData
from hfcompress.folders import RECORD
from hfcompress.measure.runnable import folder_of
from hfcompress.sources import resolve, shown


def held_out(data: TaskData) -> dict[str, Any]:
    """Return what `compression.json` says of the rows that training did not see, if they were drawn."""
    return {"held_out": dataclasses.asdict(data.draw)} if data.draw is not None else {}


def seen_before(models: Iterable[str], dataset: str, data: TaskData) -> list[str]:
    """Say of each model in a folder of ours whether it was made with rows that are held out now.

    That is so where both runs drew rows from the same training split and not the same ones. Of a model that came from
    elsewhere nothing is known.

    Args:
        models: What the user called the models.
        dataset: What the user called the data.
        data: The rows now.
    """
    notes = []
    for model in dict.fromkeys(models) if data.draw is not None else ():
        known = _held_out_by(model)
        same = known is not None and known["dataset"] == shown(dataset)
        if known and same and known["held_out"] != dataclasses.asdict(data.draw):  # type: ignore[arg-type]
            seed, rows = known["held_out"]["seed"], known["held_out"]["rows"]
            notes.append(
                f"{shown(model)} was made with rows that it is scored on here, which flatters it. New to it are the "
                f"{rows} rows of {known['dataset']} that --validation {rows} --seed {seed} holds out."
            )
    return notes


def _held_out_by(model: str) -> dict[str, Any] | None:
    """Return what the record of a model's folder says of its data; None without one that drew rows."""
    path = Path(resolve(folder_of(model))) / RECORD
    if not path.is_file():
        return None
    data = json.loads(path.read_text(encoding="utf-8")).get("data") or {}
    return data if data.get("held_out") else None
