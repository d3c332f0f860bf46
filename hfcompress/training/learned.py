"""What is trained beside the model (projections, scores): what DDP and the Trainer do for the model alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed
from torch import nn
from transformers import TrainingArguments

from hfcompress.errors import Fault, RequestError


def share_start(parameters: Iterable[nn.Parameter], args: TrainingArguments) -> None:
    """Start from the same parameters on every process: those of the first."""
    if args.world_size > 1:
        for parameter in parameters:
            torch.distributed.broadcast(parameter.data, src=0)


def average_gradients(parameters: Iterable[nn.Parameter], args: TrainingArguments) -> None:
    """Average gradients over the processes, as DDP does for the model."""
    if args.world_size > 1:
        for parameter in parameters:
            if parameter.grad is not None:
                torch.distributed.all_reduce(parameter.grad)
                parameter.grad /= args.world_size


def add_to_optimizer(
    optimizer: torch.optim.Optimizer, groups: Sequence[dict[str, Any]], passed_in: bool, what: str, fix: str
) -> None:
    """Let an optimizer train groups of parameters too, those that it does not train yet.

    Args:
        optimizer: The optimizer.
        groups: Each with its `params` and options.
        passed_in: Whether the user made the optimizer.
        what: Names what is learned.
        fix: What can be done where the user's optimizer lacks it.

    Raises:
        RequestError: It does.
    """
    present = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for group in groups:
        missing = [parameter for parameter in group["params"] if id(parameter) not in present]
        if missing and passed_in:
            problem = f"the optimizer passed in lacks {what}."
            fix = f"Let the trainer create it (`optim=` in the arguments), or {fix}."
            raise RequestError(Fault("optimizers", problem, fix))
        if missing:
            optimizer.add_param_group({**group, "params": missing})
