"""What a recipe's first step would make, found out by looking at the model and the rows; nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hfcompress.context import Context
from hfcompress.labels import label_settings
from hfcompress.modeling.load import load_model, load_processor
from hfcompress.pipeline.job import Job

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class Prediction:
    """What a step would make.

    Args:
        config: The config of the model that comes out.
        findings: What else the step expects.
    """

    config: PretrainedConfig
    findings: dict[str, Any]


def predict_first(job: Job, progress: bool = True, say: Callable[[str], None] = lambda text: None) -> Prediction | None:
    """Let a recipe's first step say what it would make; None where it cannot without being run.

    Later steps cannot be asked: they would look at models that are not there yet.

    Args:
        job: What `prepare` returned.
        progress: Show progress bars on stderr.
        say: Told in one line what happens.

    Raises:
        RequestError: The step would refuse the model or its options.
    """
    step = job.steps[0]
    if step.method.predict is None:
        return None
    say("looking at the model and the rows, and timing what this machine has not timed before")
    torch.manual_seed(job.recipe.seed)
    processor = load_processor(job.recipe.model, job.task)
    context = Context(job.task, job.data, processor, job.recipe.seed, Path(), {}, progress, say=say)
    config = step.method.predict(starting_model(job), step.config, context)
    return Prediction(config, context.findings)


def starting_model(job: Job) -> PreTrainedModel:
    """Load the model that the first step is given, with the labels of the data."""
    settings = label_settings(job.config) if job.task.names_labels else {}
    return load_model(job.recipe.model, job.task, **settings)
