"""The `fwsvd` step: singular values of matrices whose columns count by what the loss sees of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from tqdm.auto import tqdm

from hfcompress.calibration import Batch, calibration_inputs, evaluating
from hfcompress.calibration.sensitivity import differentiable, listening, surprise
from hfcompress.factorization.decompose import fisher_svd, svd_losses
from hfcompress.factorization.findings import SEEN_WEIGHTS
from hfcompress.factorization.layers import SeenOptions, factorize, predict_ranks
from hfcompress.modeling.linear import channels_in, matrix
from hfcompress.modeling.statistics import check_finite
from hfcompress.registry import register

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PretrainedConfig, PreTrainedModel

    from hfcompress.context import Context
    from hfcompress.tasks import Task


@dataclass
class FwsvdConfig(SeenOptions):
    """Options of `fwsvd`."""


def predict_fwsvd(model: PreTrainedModel, config: FwsvdConfig, context: Context) -> PretrainedConfig:
    """Return the config of the model that `fwsvd` would make; see `predict_ranks`."""
    layers = config.layers_of(model)
    losses = _losses(layers, _look(model, layers, config, context))
    return predict_ranks(model, layers, losses, config, context, SEEN_WEIGHTS)


@register("factorization", "fwsvd", FwsvdConfig, predict=predict_fwsvd)
def fwsvd(model: PreTrainedModel, config: FwsvdConfig, context: Context) -> PreTrainedModel:
    """Replace linear layers by two thin ones, weights counting by their Fisher information, input by input.

    Hsu et al. 2022, "Language model compression with weighted low-rank factorization", arXiv 2207.00112. The loss is
    the model's own surprise, so that no labels are needed. A budget is shared out by `‖(W − M) D‖²`.

    Args:
        model: The model; changed in place.
        config: Which layers, their ranks, and on how many rows.
        context: Gives the calibration rows.

    Raises:
        RequestError: The filters match nothing, or the budget cannot be met.
        DataError: There are too few rows.
        ModelError: Weights, activations or gradients are NaN or infinite; the layer is named.
    """
    layers = config.layers_of(model)
    seen = _look(model, layers, config, context)
    return factorize(
        model,
        layers,
        _losses(layers, seen),
        lambda name: fisher_svd(matrix(layers[name]), seen[name]),
        config,
        context,
        SEEN_WEIGHTS,
    )


def _look(
    model: PreTrainedModel, layers: Mapping[str, nn.Module], config: FwsvdConfig, context: Context
) -> dict[str, Tensor]:
    """Look at the model, which stays as it is."""
    with evaluating(model):
        batches = calibration_inputs(model, context, config.examples, config.batch_size)
        return input_information(model, list(layers), batches, context.task, context.seed, context.progress)


def _losses(layers: Mapping[str, nn.Module], seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: svd_losses(matrix(module), seen[name]) for name, module in layers.items()}


def input_information(
    model: PreTrainedModel,
    modules: Sequence[str],
    batches: Sequence[Batch],
    task: Task,
    seed: int,
    progress: bool = False,
) -> dict[str, Tensor]:
    """Return by linear layer the Fisher information of the weights that read each input, summed over them `(inputs,)`.

    It is the mean over examples of the squared gradient, `Σ_i (Σ_t g_ti x_tj)²` for the tokens `t` of an example.

    Raises:
        ModelError: Activations or gradients are NaN or infinite; the layer is named.
    """
    found = {name: torch.zeros(channels_in(model.get_submodule(name)), dtype=torch.float64) for name in modules}
    generator = torch.Generator().manual_seed(seed)
    examples = sum(len(next(iter(batch.values()))) for batch in batches)

    def hear(name: str, given: Tensor, output: Tensor, mask: Tensor | None) -> None:
        def note(gradient: Tensor) -> None:
            check_finite(gradient, name)
            found[name] += _squares(given, gradient, mask).to(found[name]) / examples

        if output.requires_grad:
            output.register_hook(note)

    with differentiable(model), listening(model, modules, hear) as run, torch.enable_grad():
        for batch in tqdm(batches, desc="looking at the model", unit="batch", disable=not progress):
            surprise(run(batch), batch, task, generator).backward()
    return found


def _squares(inputs: Tensor, gradients: Tensor, mask: Tensor | None) -> Tensor:
    """Return the squared gradients of the weights `(inputs,)`, summed over examples and outputs."""
    if inputs.dim() == 2:  # one vector an example
        inputs, gradients = inputs[:, None], gradients[:, None]
    if mask is not None and inputs.shape[:2] == mask.shape:
        gradients = gradients * mask[..., None]
    return (gradients.transpose(1, 2) @ inputs).square().sum((0, 1))
