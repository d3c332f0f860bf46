"""What `compression.json` says of the data and of the recipe: enough to do it again, no path and no row."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hfcompress.data import TaskData
from hfcompress.data.statistics import row_statistics
from hfcompress.hub.card.origin import source_card
from hfcompress.sources import shown
from hfcompress.tasks import Task

if TYPE_CHECKING:
    from hfcompress.pipeline.job import Job


def data_record(data: TaskData, dataset: str, task: Task, processor: Any) -> dict[str, Any]:
    """Return what `compression.json` says of the data: no path, no row.

    Args:
        data: The checked rows.
        dataset: What the user called it.
        task: Knows how rows are read.
        processor: The model's tokenizer or image processor.
    """
    parts = {"training": data.train, "validation": data.validation}
    return {
        "dataset": shown(dataset),
        "fingerprint": data.fingerprint,
        "training_rows": len(data.train),
        "unlabeled_rows": len(data.unlabeled) if data.unlabeled is not None else 0,
        "validation_rows": len(data.validation),
        "labels": list(data.label_names),
        "max_length": data.max_length,
        "overlap": data.overlap,
        "statistics": {
            part: row_statistics(rows, task, processor, data.max_length, data.label_names)
            for part, rows in parts.items()
            if len(rows)
        },
    }


def source_of(job: Job) -> dict[str, Any]:
    """Return what the starting model is, with what its card hands down, if anything."""
    card = source_card(job.recipe.model)
    return {**job.source, "card": card} if card else dict(job.source)


def recipe_record(job: Job) -> dict[str, Any]:
    """Return the recipe that does the same again, without what was left at its default; folders by their names."""
    recipe = job.recipe
    steps = [
        {step.method.name: settings, **({"as": step.name} if step.name != step.method.name else {})}
        for step, settings in zip(job.steps, job.settings, strict=True)
    ]
    found = {
        "description": recipe.description,
        "model": job.source["model"],
        "task": job.task.name,
        "seed": recipe.seed,
        "data": {name: shown(value) for name, value in _changed(recipe.data).items()},
        "steps": steps,
    }
    found |= {"pack": recipe.pack} if recipe.pack else {}
    return found if recipe.export is None else found | {"export": _changed(recipe.export)}


def _changed(config: Any) -> dict[str, Any]:
    """Return a config's values that are not at their default."""
    values: Mapping[str, Any] = dataclasses.asdict(config)
    defaults = {
        field.name: field.default_factory() if callable(field.default_factory) else field.default
        for field in dataclasses.fields(config)
    }
    return {name: value for name, value in values.items() if value != defaults[name]}
