"""What a recipe would make and cost, told before anything is touched."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hfcompress.data import TaskData
from hfcompress.measure.size import measure_size
from hfcompress.pipeline.recipe import Step, step_named
from hfcompress.pruning.schedules import SparsitySchedule
from hfcompress.tasks import Task
from hfcompress.training.alteration import Length
from hfcompress.training.options import DEFAULTS

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from hfcompress.pipeline.prediction import Prediction

_FLOAT = 4
_TRAINING_COPIES = 4
"""Weights, gradients and Adam's two averages."""


@dataclass(frozen=True)
class StepPlan:
    """What one step would make and cost.

    Args:
        name: The step.
        parameters: Of the model that comes out; with `at_most`, no more than that.
        macs: Of that model, for one text of 128 tokens.
        memory_bytes: Weights, gradients, optimizer and the teacher; activations come on top.
        optimizer_steps: Of training; 0 for a step that does not train.
        disk_bytes: Two checkpoints at the most, and the model.
        at_most: How much is left is only known once the step has looked at the model and the data.
        expected: What the step found out, where it has looked; None where it has not.
        waits: Whether it could look, but only at the model that the step before will have made.
    """

    name: str
    parameters: int
    macs: int
    memory_bytes: int
    optimizer_steps: int
    disk_bytes: int
    at_most: bool = False
    expected: dict[str, Any] | None = None
    waits: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def plan_steps(
    config: PretrainedConfig, steps: list[Step], task: Task, data: TaskData, predicted: Prediction | None = None
) -> list[StepPlan]:
    """Plan steps from configs alone: no weights are loaded, nothing is written.

    Args:
        config: The starting model's, with its labels.
        steps: What would be done.
        task: Decides the class.
        data: Its rows are counted.
        predicted: What the first step would make, where it has looked at the model.
    """
    plans: list[StepPlan] = []
    made: dict[str, PretrainedConfig] = {}
    before = measure_size(config, task)
    at_most = False
    for index, step in enumerate(steps):
        known = predicted if not plans else None
        trained = trains(step)
        taught = trained and hasattr(step.config, "teacher") and getattr(step.config, "teaches", True)
        with step_named(steps, index):
            planned = known.config if known is not None else _planned(step, config, made)
            length = _length(step, len(data.with_unlabeled if taught else data.train)) if trained else None
        if known is None:
            # What pruning removes is in the data, unless the plan says it; what was unknown stays so in later steps.
            at_most |= step.method.family in ("pruning", "factorization") and planned == config
        config = made[step.name] = planned
        size = measure_size(config, task)
        copies = _TRAINING_COPIES if trained else 1
        teacher = before.parameters if taught else 0
        held = max(before.parameters, size.parameters) if known is not None else size.parameters
        plans.append(
            StepPlan(
                name=step.name,
                parameters=size.parameters,
                macs=size.macs,
                memory_bytes=_FLOAT * (copies * held + teacher),
                optimizer_steps=length.steps if length is not None else 0,
                disk_bytes=_FLOAT * size.parameters * (2 * (copies - 1) + 1),
                at_most=at_most,
                expected=None if known is None else known.findings,
                waits=bool(plans) and step.method.predict is not None,
            )
        )
        before = size
    return plans


def trains(step: Step) -> bool:
    """Say whether a step trains; some methods do only when their option `train` is set."""
    return hasattr(step.config, "training") and getattr(step.config, "train", True)


def _planned(step: Step, config: PretrainedConfig, made: dict[str, PretrainedConfig]) -> PretrainedConfig:
    return step.method.plan(step.config, config, made) if step.method.plan is not None else config


def _length(step: Step, rows: int) -> Length:
    """Return how long a step trains, and try its schedule on that.

    Raises:
        RequestError: The schedule does not fit.
    """
    length = training_length(step.config.training, rows)
    if isinstance(step.config, SparsitySchedule):
        step.config.over(length)
    return length


def training_length(training: dict[str, Any], rows: int) -> Length:
    """Return how many optimizer steps one process would take over `rows` training rows."""
    settings = {**DEFAULTS, **training}
    batches = math.ceil(rows / settings["per_device_train_batch_size"])
    epoch = math.ceil(batches / settings.get("gradient_accumulation_steps", 1))
    if settings.get("max_steps", -1) > 0:
        return Length(int(settings["max_steps"]), epoch)
    return Length(math.ceil(settings["num_train_epochs"] * epoch), epoch)
