"""A recipe with all that it names looked up and checked, before anything long starts."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfcompress import environment
from hfcompress.config import gather
from hfcompress.data import TaskData, load_data
from hfcompress.export.backends.base import find_backend
from hfcompress.folders import RECORD
from hfcompress.modeling.load import load_config
from hfcompress.pipeline import provenance
from hfcompress.pipeline.quantized import refuse_quantized
from hfcompress.pipeline.recipe import Recipe, Step, read_steps
from hfcompress.sources import check_hashes
from hfcompress.tasks import Task, find_task, task_of_config, trained_labels
from hfcompress.training.run import build_arguments

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass
class Job:
    """A recipe with everything it names looked up and checked.

    Args:
        recipe: What was asked for.
        steps: Its steps.
        task: The task.
        config: The starting model's config, with the data's labels.
        trained: Whether the starting model's head was trained for the task.
        data: The checked rows.
        source: What the starting model is, for the record.
        settings: The steps' options, for the record.
    """

    recipe: Recipe
    steps: list[Step]
    task: Task
    config: PretrainedConfig
    trained: bool
    data: TaskData
    source: dict[str, Any]
    settings: list[dict[str, Any]]

    def fingerprint(self, count: int) -> str:
        """Return what identifies the model that the first `count` steps make."""
        chosen = zip(self.steps[:count], self.settings[:count], strict=True)
        steps = [(step.method.name, settings, step.name) for step, settings in chosen]
        parts = (self.source, self.data.fingerprint, self.data.max_length, self.recipe.seed, self.task.name, steps)
        return provenance.fingerprint(environment.versions(environment.TRAINING), *parts)

    def output_fingerprint(self) -> str:
        """Return what identifies the finished folder: the last model, and what else is made of it."""
        model, export, packed = self.fingerprint(len(self.steps)), self.recipe.export, self.recipe.pack
        more = [*([dataclasses.asdict(export)] if export is not None else []), *([packed] if packed else [])]
        return provenance.fingerprint(model, *more) if more else model


def prepare(recipe: Recipe) -> Job:
    """Look up and check everything that a recipe names, before anything long starts.

    Raises:
        RequestError: Something is wrong with recipe, model or data.
        NetworkError: Something would have to come from the Hub, which cannot be reached.
    """
    check_hashes(recipe.checksums)
    if recipe.export is not None:
        find_backend(recipe.export.backend)
    steps = read_steps(recipe)
    gather(*(partial(build_arguments, step.config.training) for step in steps if hasattr(step.config, "training")))
    config = load_config(recipe.model)
    refuse_quantized(config, steps, recipe.export is not None)
    task = find_task(recipe.task) if recipe.task else task_of_config(config, recipe.model)
    labels = trained_labels(config, task)
    if hasattr(steps[0].config, "check_start"):
        steps[0].config.check_start(trained=labels is not None)
    data = load_data(recipe.data, recipe.seed, task, labels, config.problem_type if labels else None)
    task.references(data.validation)  # so that rows that nothing can be scored on are refused now, not after training
    if task.names_labels:
        if labels is None or len(labels) != len(data.label_names):
            config.num_labels = len(data.label_names)
        config.id2label = dict(enumerate(data.label_names))
        config.label2id = {name: index for index, name in config.id2label.items()}
        config.problem_type = data.problem_type
    names = [step.name for step in steps]
    settings = [provenance.without_paths(step.settings(), names) for step in steps]
    source = provenance.source_record(recipe.model)
    return Job(recipe, steps, task, config, labels is not None, data, source, settings)


def finished(job: Job, output_dir: Path) -> dict[str, Any] | None:
    """Return the record of an output folder that this very recipe made, or None."""
    path = output_dir / RECORD
    if not path.is_file():
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    return record if record.get("fingerprint") == job.output_fingerprint() else None
