"""Calibration rows: drawn from the training data, in batches of about equal length."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from hfcompress.data import encode, row_lengths
from hfcompress.errors import DataError, Fault

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from hfcompress.context import Context

Batch = dict[str, "Tensor"]


class Inputs(dict[str, Any]):
    """What a model is called with, without labels.

    Args:
        values: By name.
        asked: The batch with its labels: they say where a text's answers are, which words are to be said.
    """

    def __init__(self, values: dict[str, Any], asked: Batch) -> None:
        super().__init__(values)
        self.asked = asked


def calibration_batches(
    model: PreTrainedModel,
    context: Context,
    examples: int,
    batch_size: int = 32,
    fewest: int = 2,
    labelled: bool = False,
) -> list[Batch]:
    """Draw training rows at random, labels and all, and return them as batches of about equal length.

    Args:
        model: Decides the device, and what of a row is given to it.
        context: Gives rows, task, tokenizer and seed.
        examples: How many rows; all, where there are fewer.
        batch_size: Rows in a batch.
        fewest: How many rows the method needs at the least.
        labelled: Draw from the rows with labels alone.

    Raises:
        DataError: There are fewer rows than that.
    """
    rows = context.data.train if labelled else context.data.with_unlabeled
    if len(rows) < fewest:
        counted = "1 training row is" if len(rows) == 1 else f"{len(rows)} training rows are"
        problem = f"{counted} not enough to look at the model with."
        raise DataError(Fault("examples", problem, f"Give data with at least {fewest}; some hundreds are usual."))
    chosen = np.random.default_rng(context.seed).permutation(len(rows))[:examples]
    encoded = encode(rows.select(np.sort(chosen)), context.task, context.processor, context.data.max_length)
    # The longest first: what memory they take is then enough for all that follow, and freed memory fits again.
    order = np.argsort(row_lengths(encoded, model.main_input_name), kind="stable")[::-1]
    collate = context.task.collator(context.processor)
    return [
        _to_device(collate([encoded[int(place)] for place in order[start : start + batch_size]]), model)
        for start in range(0, len(encoded), batch_size)
    ]


def calibration_inputs(model: PreTrainedModel, context: Context, examples: int, batch_size: int) -> list[Inputs]:
    """Draw training rows and return what the model is called with, batch by batch, without labels.

    Raises:
        DataError: There are fewer than two rows.
    """
    batches = calibration_batches(model, context, examples, batch_size)
    return [Inputs(model_inputs(model, context, batch), batch) for batch in batches]


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Put a model into evaluation mode for a while."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def model_inputs(model: PreTrainedModel, context: Context, batch: Batch, labels: bool = False) -> dict[str, Any]:
    """Return what of a batch the model takes, with its labels or without."""
    taken = set(inspect.signature(model.forward).parameters)
    own = context.task.prepare_inputs(batch, model.config)
    left_out = set() if labels else set(context.task.label_columns)
    return {name: value for name, value in own.items() if name in taken and name not in left_out}


def _to_device(batch: Batch, model: PreTrainedModel) -> Batch:
    return {name: value.to(model.device) for name, value in batch.items()}
