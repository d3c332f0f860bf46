"""What a recipe would make and cost, told before anything is touched."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hfcompress.data import TaskData
from hfcompress.measure.size import measure_size
from hfcompress.pipeline.recipe import Step
from hfcompress.tasks import Task
from hfcompress.training.options import DEFAULTS

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_FLOAT = 4
_TRAINING_COPIES = 4
"""Weights, gradients and Adam's two averages."""


@dataclass(frozen=True)
class StepPlan:
    """What one step would make and cost.

    Args:
        name: The step.
        parameters: Of the model that comes out.
        macs: Of that model, for one text of 128 tokens.
        memory_bytes: Weights, gradients, optimizer and the teacher; activations come on top.
        optimizer_steps: Of training; 0 for a step that does not train.
        disk_bytes: Two checkpoints at the most, and the model.
    """

    name: str
    parameters: int
    macs: int
    memory_bytes: int
    optimizer_steps: int
    disk_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def plan_steps(config: PretrainedConfig, steps: list[Step], task: Task, data: TaskData) -> list[StepPlan]:
    """Plan steps from configs alone: no weights are loaded, nothing is written.

    Args:
        config: The starting model's, with its labels.
        steps: What would be done.
        task: Decides the class.
        data: Its rows are counted.
    """
    plans = []
    made: dict[str, PretrainedConfig] = {}
    before = measure_size(config, task)
    for step in steps:
        if step.method.plan is not None:
            config = step.method.plan(step.config, config, made)
        made[step.name] = config
        size = measure_size(config, task)
        trains = hasattr(step.config, "training")
        copies = _TRAINING_COPIES if trains else 1
        taught = hasattr(step.config, "teacher")
        teacher = before.parameters if taught else 0
        rows = len(data.with_unlabeled) if taught else len(data.train)
        plans.append(
            StepPlan(
                name=step.name,
                parameters=size.parameters,
                macs=size.macs,
                memory_bytes=_FLOAT * (copies * size.parameters + teacher),
                optimizer_steps=optimizer_steps(step.config.training, rows) if trains else 0,
                disk_bytes=_FLOAT * size.parameters * (2 * (copies - 1) + 1),
            )
        )
        before = size
    return plans


def optimizer_steps(training: dict[str, Any], rows: int) -> int:
    """Return how many optimizer steps one process would take over `rows` training rows."""
    settings = {**DEFAULTS, **training}
    if settings.get("max_steps", -1) > 0:
        return int(settings["max_steps"])
    batches = math.ceil(rows / settings["per_device_train_batch_size"])
    return math.ceil(settings["num_train_epochs"] * math.ceil(batches / settings.get("gradient_accumulation_steps", 1)))
