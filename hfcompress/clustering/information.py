"""How much each single weight counts: its Fisher information, from some calibration rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from tqdm.auto import tqdm

from hfcompress.calibration import Batch, evaluating
from hfcompress.calibration.sensitivity import surprise
from hfcompress.modeling.linear import weight_of
from hfcompress.modeling.statistics import check_finite

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from hfcompress.tasks import Task


def weight_information(
    model: PreTrainedModel,
    modules: Sequence[str],
    examples: Sequence[Batch],
    task: Task,
    seed: int,
    progress: bool = False,
) -> dict[str, Tensor]:
    """Return the diagonal of the Fisher information of some modules' weights, by name, each in the weight's shape.

    It is the mean over examples of the squared gradient of the model's own surprise, so that no labels are needed
    (SqueezeLLM: Kim et al. 2023, arXiv 2306.07629, equation 4).

    Args:
        model: The model.
        modules: Their names.
        examples: What the model is called with, one row each.
        task: Says what of the outputs are the answers.
        seed: Of the random signs.
        progress: Show a bar on stderr.

    Raises:
        ModelError: Gradients are NaN or infinite; the module is named.
    """
    weights = [weight_of(model.get_submodule(name)) for name in modules]
    found = [torch.zeros_like(weight) for weight in weights]
    generator = torch.Generator().manual_seed(seed)
    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    chosen = {id(weight) for weight in weights}
    try:
        for parameter in before:
            parameter.requires_grad_(id(parameter) in chosen)
        with evaluating(model), torch.enable_grad():
            for example in tqdm(examples, desc="looking at the weights", unit="row", disable=not progress):
                loss = surprise(model(**example), example, task, generator)
                for total, gradient in zip(found, torch.autograd.grad(loss, weights, allow_unused=True), strict=True):
                    if gradient is not None:
                        total.addcmul_(gradient, gradient, value=1 / len(examples))
    finally:
        for parameter, state in before.items():
            parameter.requires_grad_(state)
    for name, total in zip(modules, found, strict=True):
        check_finite(total, name)
    return dict(zip(modules, found, strict=True))
