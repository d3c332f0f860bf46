"""Batch norms after pruning: running statistics of what comes in now, not of what came in before."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def reestimate(model: PreTrainedModel, batches: Iterable[dict[str, Any]]) -> None:
    """Estimate the running mean and variance of all batch norms anew, in place; nothing is trained.

    Each becomes the plain average over the batches of the batches' own statistics (Wu & Johnson 2021, "Rethinking
    'Batch' in BatchNorm", arXiv 2105.07576, section 3). A batch of one row is left out: it has no variance where an
    image has shrunk to one pixel.

    Args:
        model: The model; layers other than batch norms work as in evaluation.
        batches: What the model takes, without labels.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d) and module.track_running_stats]
    several = [batch for batch in batches if len(batch[model.main_input_name]) > 1]
    if not norms or not several:
        return
    training, momenta = model.training, [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for a plain average
        norm.train()
    try:
        with torch.no_grad():
            for batch in several:
                model(**batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.train(training)
