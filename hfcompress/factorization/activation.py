"""The `activation` step: linear layers of low rank that give what the dense ones gave, on real inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from annotated_types import Interval
from tqdm.auto import tqdm

from hfcompress.calibration import Batch, calibration_inputs, evaluating
from hfcompress.calibration.behind import fits_behind
from hfcompress.calibration.least_squares import Fit, regression
from hfcompress.calibration.sensitivity import Sensitivity, measure_sensitivity
from hfcompress.calibration.walk import Stop, Walk, can_walk
from hfcompress.config import option
from hfcompress.factorization.comparing import comparing
from hfcompress.factorization.decompose import Decomposition, is_low, losses_on_narrow_side, on_narrow_side
from hfcompress.factorization.findings import DIVERGENCE, KEY, OUTPUTS, Loss, warn_of_few
from hfcompress.factorization.layers import SeenOptions, predict_ranks, ranks_for
from hfcompress.memory import give_back, returning
from hfcompress.modeling.factors import Factors, put_factors
from hfcompress.modeling.families import FAMILIES, stacks_of
from hfcompress.modeling.groups import places_of
from hfcompress.modeling.linear import matrix
from hfcompress.registry import register

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PretrainedConfig, PreTrainedModel

    from hfcompress.context import Context


@dataclass
class ActivationConfig(SeenOptions):
    """Options of `activation`."""

    fisher: bool = option(True, help="count errors by what the loss sees of them")
    behind: bool = option(True, help="look at each layer behind those that are factorized already")
    focus: Annotated[float, Interval(ge=0, le=1)] = option(
        0.5, help="how far tokens count by what depends on them: 0 all alike, 1 by that alone"
    )

    @property
    def loss(self) -> Loss:
        """What is made least."""
        return DIVERGENCE if self.fisher else OUTPUTS


def predict_activation(model: PreTrainedModel, config: ActivationConfig, context: Context) -> PretrainedConfig:
    """Return the config of the model that `activation` would make; see `predict_ranks`."""
    layers = config.layers_of(model)
    with evaluating(model):
        batches = calibration_inputs(model, context, config.examples, config.batch_size)
        known = _look(model, layers, batches, config, context)
    found = predict_ranks(model, layers, _losses(layers, known, config), config, context, config.loss)
    chosen = {layer["name"]: layer["rank"] for layer in context.findings[KEY]["layers"]}
    warn_of_few({name: rank for name, rank in chosen.items() if rank is not None}, _tokens(known), "tokens")
    return found


def _tokens(known: Mapping[str, Sensitivity]) -> dict[str, int]:
    """Return how many tokens each layer was seen with."""
    return {name: sum(len(weights) for weights in one.weights) for name, one in known.items()}


@register("factorization", "activation", ActivationConfig, predict=predict_activation)
def activation(model: PreTrainedModel, config: ActivationConfig, context: Context) -> PreTrainedModel:
    """Replace linear layers by two thin ones that change least what comes out of them on calibration rows.

    At each rank `M` minimises `E‖√G (W − M)(x − E[x])‖²`, where `G` is the second moment of the loss's gradient behind
    the layer (1 without `fisher`); see `decompose.for_outputs`. A budget is shared out by what the loss grows by. With
    `behind` the inputs are those that the layers before give once they are factorized, and the target is what the dense
    model gave, residual stream included: reduced-rank regression (Izenman 1975), layer after layer.

    Args:
        model: The model; changed in place.
        config: Which layers, their ranks, and on how many rows.
        context: Gives the calibration rows; their labels are not used.

    Raises:
        RequestError: The filters match nothing, or the budget cannot be met.
        DataError: There are too few rows.
        ModelError: Weights, activations or gradients are NaN or infinite; the layer is named.
    """
    layers = config.layers_of(model)
    with returning(), evaluating(model), comparing(model, context):
        batches = calibration_inputs(model, context, config.examples, config.batch_size)
        known = _look(model, layers, batches, config, context)
        ranks = ranks_for(layers, _losses(layers, known, config), config, context, config.loss)
        known = {name: known[name] for name in ranks}  # what was seen of the others is not needed again
        warn_of_few(ranks, _tokens(known), "tokens")
        if config.behind:
            ranks = _behind(model, ranks, batches, known, config, context.progress)
        rest = {name: _decompose(layers[name], known[name], config).factors(rank) for name, rank in ranks.items()}
        put_factors(model, rest)
    return model


def _look(
    model: PreTrainedModel,
    layers: Mapping[str, nn.Module],
    batches: Sequence[Batch],
    config: ActivationConfig,
    context: Context,
) -> dict[str, Sensitivity]:
    """Look at the dense model, which stays as it is."""
    names, task, seed = list(layers), context.task, context.seed
    return measure_sensitivity(model, names, batches, task, config.focus, seed, context.progress, narrow=True)


def _losses(
    layers: Mapping[str, nn.Module], known: Mapping[str, Sensitivity], config: ActivationConfig
) -> dict[str, Tensor]:
    seen = {name: (known[name].covariance, known[name].gradient if config.fisher else None) for name in layers}
    return {name: losses_on_narrow_side(matrix(module), *seen[name]) for name, module in layers.items()}


def _decompose(module: nn.Module, known: Sensitivity, config: ActivationConfig) -> Decomposition:
    """Decompose a layer by what was seen of the dense model."""
    gradient = known.gradient if config.fisher else None
    return on_narrow_side(matrix(module), known.covariance, known.mean, gradient)


@torch.no_grad()
def _behind(
    model: PreTrainedModel,
    ranks: Mapping[str, int],
    batches: Sequence[Batch],
    known: Mapping[str, Sensitivity],
    config: ActivationConfig,
    progress: bool,
) -> dict[str, int]:
    """Factorize what can be looked at layer by layer; return the ranks of the rest."""
    rest = dict(ranks)
    once = [name for name in ranks if len(known[name].weights) == len(batches)]  # DeBERTa projects positions, too
    weights = {name: found.weights for name, found in known.items()}
    stacks = stacks_of(model) if model.config.model_type in FAMILIES else []
    stacks = [(blocks, layers) for blocks, layers in stacks if can_walk(model, blocks, layers, batches[0])]
    walked = {module for _, layers in stacks for module in layers.modules()}
    for name in once:
        if model.get_submodule(name) in walked:
            known[name].covariance = torch.empty(0)  # that of the dense model, which is not needed again
    give_back()
    bar = tqdm(total=len(ranks), desc="factorizing", unit="layer", disable=not progress)
    for blocks, layers in stacks:
        walk = Walk(model, batches, blocks, layers)
        branches = {} if blocks.bottleneck else _branches(model)
        for number in range(len(layers)):
            stages = [[Stop(name, branches.get(name)) for name in stage] for stage in walk.stages(number, once)]
            stops = [stop for stage in stages for stop in stage]
            walk.enter(number, stops)
            done = 0
            for stage in stages:
                for name, fit in fits_behind(walk, number, stops[:done], stage, weights).items():
                    gradient = known[name].gradient if config.fisher else None
                    put_factors(model, {name: _refit(model.get_submodule(name), fit, gradient, rest.pop(name))})
                    bar.update()
                done += len(stage)
            walk.leave(number)
            give_back()
    bar.close()
    return rest


def _branches(model: PreTrainedModel) -> dict[str, str]:
    """Return for each layer that writes to the residual stream the one that first reads it."""
    parts = [[f"{place.layer}.{part}" for part in place.parts] for place in places_of(model)]
    return {names[-1]: names[0] for names in parts}


@torch.no_grad()
def _refit(module: nn.Module, fit: Fit, gradient: Tensor | None, rank: int) -> Factors:
    """Return the factors that give what is wanted behind what was factorized before."""
    weight = regression(fit.covariance, fit.products, matrix(module).double().T).T
    covariance = weight @ fit.covariance @ weight.T if is_low(weight) else fit.covariance
    found = on_narrow_side(weight, covariance, None, gradient).factors(rank)
    return Factors(found.down, found.up, fit.target_mean - found.up @ (found.down @ fit.mean))
