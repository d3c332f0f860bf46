"""How far a model's answers move while a step changes it, measured on training rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hfcompress.calibration import Batch, calibration_batches, evaluating, model_inputs
from hfcompress.errors import DataError
from hfcompress.factorization.findings import KEY, short

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from hfcompress.context import Context

_ROWS = 64
"""Rows on which the answers of the dense model and of the small one are compared, at most."""

_MOST_ANSWERS = 2**24
"""Numbers that are kept of the dense model's answers, at most: those of a language model are many."""

_Answer = tuple[Tensor, bool]


@contextmanager
def comparing(model: PreTrainedModel, context: Context) -> Iterator[None]:
    """Measure how far a model's answers on training rows have moved when the block is left, and note it.

    Of classes it is the Kullback-Leibler divergence from the dense model, in nats an example; of other answers half the
    squared difference: what an estimate by Fisher information is an estimate of. Where there are enough rows, these are
    not the ones that the method looks at. Without any, nothing is noted.
    """
    with evaluating(model):
        batches, dense = _answers(model, context)
    yield
    if not batches:
        return
    with evaluating(model):
        pairs = zip(dense, batches, strict=True)
        total = sum(_divergence(before, _answer(model, batch, context)) for before, batch in pairs)
    rows = sum(len(next(iter(batch.values()))) for batch in batches)
    if np.isfinite(total) and KEY in context.findings:
        context.findings[KEY] |= {"measured_loss": short(total / rows), "measured_on": rows}


def _answers(model: PreTrainedModel, context: Context) -> tuple[list[Batch], list[_Answer]]:
    """Return training rows and what a model answers to them; none where there are too few."""
    rows = context.data.with_unlabeled
    # Methods look at the first ones of this order.
    last = np.random.default_rng(context.seed).permutation(len(rows))[-_ROWS:]
    own = replace(context, data=replace(context.data, train=rows.select(np.sort(last)), unlabeled=None))
    try:
        batches = calibration_batches(model, own, _ROWS, batch_size=8)
    except DataError:
        return [], []
    answers: list[_Answer] = []
    for batch in batches:
        answers.append(_answer(model, batch, context))
        if sum(values.numel() for values, _ in answers) > _MOST_ANSWERS:
            break
    return batches[: len(answers)], answers


@torch.no_grad()
def _answer(model: PreTrainedModel, batch: Batch, context: Context) -> _Answer:
    """Return what a model answers, and whether that is scores of classes."""
    outputs = model(**model_inputs(model, context, batch))
    logits, _ = context.task.rows(outputs, batch)
    if logits is None:
        return next(iter(outputs.values())).float(), False
    return logits.float(), logits.shape[-1] > 1 and model.config.problem_type != "regression"


def _divergence(dense: _Answer, small: _Answer) -> float:
    """Return how far answers moved, summed over the rows."""
    before, after = (values.double() for values, _ in (dense, small))
    if not dense[1]:
        return float((after - before).square().sum() / 2)
    logs = (after.log_softmax(-1), before.log_softmax(-1))
    return float(functional.kl_div(*logs, reduction="sum", log_target=True).clamp(min=0))
