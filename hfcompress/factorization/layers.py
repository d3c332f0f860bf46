"""Which of a model's linear layers become low-rank, and at what rank."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from hfcompress.config import option
from hfcompress.errors import Fault, RequestError
from hfcompress.factorization.clock import time_ranks
from hfcompress.factorization.comparing import comparing
from hfcompress.factorization.decompose import Decomposition
from hfcompress.factorization.findings import Loss, note_curves, note_ranks, tell_dense
from hfcompress.factorization.ranks import Budget, Ranked, RankOptions, choose_ranks, largest_rank
from hfcompress.measure.size import empty_model
from hfcompress.modeling.factors import Factors, put_factors
from hfcompress.modeling.linear import channels_in, channels_out
from hfcompress.modeling.low_rank import whole_name
from hfcompress.modeling.targets import TargetOptions, refuse_nan

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from hfcompress.context import Context

KINDS = (nn.Linear, Conv1D)
"""What these methods factorize."""


@dataclass
class LinearOptions(TargetOptions, RankOptions):
    """Which linear layers are factorized, and how far; a base of the methods' configs."""

    def check(self) -> None:
        """Look across the fields.

        Raises:
            RequestError: Not exactly one of the ways to choose ranks is given.
        """
        self.check_ranks()

    def layers_of(self, model: PreTrainedModel) -> dict[str, nn.Module]:
        """Return the layers to factorize, by name.

        Raises:
            RequestError: The filters match nothing, only one side of a tie, or what is of low rank already; or all
                layers are convolutions.
            ModelError: Weights are NaN or infinite, or the architecture has no row and no modules are named.
        """
        if self.modules is None:
            refuse_convolutional(model)
        found = self.chosen(model, KINDS)
        thin = dict.fromkeys(whole_name(model, name) for name in found if whole_name(model, name) != name)
        if thin:
            problem = f"{len(thin)} of these layers are of low rank already, such as '{next(iter(thin))}'."
            fix = "Exclude them, or multiply them out first: hfcompress.merge(model)."
            raise RequestError(Fault("exclude", problem, fix))
        refuse_nan(found)
        return found


def refuse_convolutional(model: PreTrainedModel) -> None:
    """Make sure that a model has more linear layers than its head.

    Raises:
        RequestError: Its layers are convolutions.
    """
    inside = [*model.base_model.modules()]
    if not any(isinstance(one, KINDS) for one in inside) and any(isinstance(one, nn.Conv2d) for one in inside):
        problem = f"the layers of this {model.config.model_type} are convolutions, and this method takes linear layers."
        raise RequestError(Fault("method", problem, "Choose tucker, channel, spatial or cp."))


@dataclass
class SeenOptions(LinearOptions):
    """The same, and how many rows the model is looked at with; a base of the configs of methods that know the data."""

    examples: Annotated[int, Ge(2)] = option(512, help="training rows to look at the model with; labels are not used")
    batch_size: Annotated[int, Gt(0)] = option(16, help="rows in a batch")


def factorize(
    model: PreTrainedModel,
    layers: Mapping[str, nn.Module],
    losses: Mapping[str, Tensor],
    decompose: Callable[[str], Decomposition],
    options: RankOptions,
    context: Context,
    loss: Loss,
) -> PreTrainedModel:
    """Put two thin layers in the place of each one that gains by it, and note what that does to the answers.

    Args:
        model: Changed in place.
        layers: The layers, by name.
        losses: Of each what is lost at rank 0, 1, 2, ….
        decompose: Given a layer's name, finds all ranks at once: one after the other, for they take more memory than
            the layers.
        options: How ranks are chosen.
        context: Gives rows, and gets the findings.
        loss: What the decompositions make least.

    Raises:
        RequestError: The budget is below that of the smallest ranks.
    """
    ranks = ranks_for(layers, losses, options, context, loss)
    with comparing(model, context):
        for name, rank in ranks.items():
            put_factors(model, {name: decompose(name).factors(rank)})
    return model


def ranks_for(
    layers: Mapping[str, nn.Module],
    losses: Mapping[str, Tensor],
    options: RankOptions,
    context: Context | None = None,
    loss: Loss | None = None,
) -> dict[str, int]:
    """Return the rank of each layer that gains by it; the others are left out, and told.

    Args:
        layers: The layers, by name.
        losses: Of each what is lost at rank 0, 1, 2, …, comparable from layer to layer where there is a budget.
        options: How ranks are chosen.
        context: Gets the findings.
        loss: What `losses` count.

    Raises:
        RequestError: The budget is below that of the smallest ranks.
    """
    known = _known(layers, losses, options)
    ranks = choose_ranks(known, options)
    if context is not None and loss is not None:
        note_ranks(context, known, ranks, options, loss)
        note_curves(context, layers, known, loss)
        tell_dense(context, known, ranks, options)
    return {name: rank for name, rank in ranks.items() if rank is not None}


def predict_ranks(
    model: PreTrainedModel,
    layers: Mapping[str, nn.Module],
    losses: Mapping[str, Tensor],
    options: RankOptions,
    context: Context,
    loss: Loss,
) -> PretrainedConfig:
    """Return the config of the model that a step would make, and note what loss and time are expected.

    Args:
        model: Stays as it is.
        layers: The layers, by name.
        losses: Of each what is lost at rank 0, 1, 2, ….
        options: How ranks are chosen.
        context: Gets the findings.
        loss: What `losses` count.

    Raises:
        RequestError: The budget is below that of the smallest ranks.
    """
    known = _known(layers, losses, options)
    ranks = choose_ranks(known, options)
    found = note_ranks(context, known, ranks, options, loss)
    found |= _milliseconds(known, ranks)
    tell_dense(context, known, ranks, options)
    skeleton = empty_model(copy.deepcopy(model.config), context.task)
    put_factors(skeleton, {name: _nothing(layers[name], rank) for name, rank in ranks.items() if rank is not None})
    return skeleton.config


def _milliseconds(known: Mapping[str, Ranked], ranks: Mapping[str, int | None]) -> dict[str, float]:
    """Return how long the layers take, one text of 128 tokens after each, as they are and with their ranks."""
    shapes = {(layer.outputs, layer.inputs): layer.largest for layer in known.values()}
    times = {shape: time_ranks(*shape, largest) for shape, largest in shapes.items()}
    before = after = 0.0
    for name, layer in known.items():
        by_rank, whole = times[layer.outputs, layer.inputs]
        rank = ranks[name]
        before += whole
        after += whole if rank is None else float(by_rank[rank])
    return {"milliseconds": after, "dense_milliseconds": before}


def _nothing(module: nn.Module, rank: int) -> Factors:
    """Return factors without memory for their values."""
    shapes = (rank, channels_in(module)), (channels_out(module), rank)
    return Factors(*(torch.empty(shape, device="meta") for shape in shapes))


def _known(layers: Mapping[str, nn.Module], losses: Mapping[str, Tensor], options: RankOptions) -> dict[str, Ranked]:
    what = options.budget[0] if options.budget else "parameters"
    times: dict[tuple[int, int], tuple[np.ndarray, float]] = {}
    return {name: _ranked(module, losses[name], what, times) for name, module in layers.items()}


def _ranked(
    module: nn.Module, losses: Tensor, what: Budget, times: dict[tuple[int, int], tuple[np.ndarray, float]]
) -> Ranked:
    """Return what is known of a layer; a text's tokens each take as many multiply-accumulates as it has weights."""
    outputs, inputs = shape = channels_out(module), channels_in(module)
    largest = largest_rank(outputs, inputs)
    if what != "latency":
        costs = np.arange(largest + 1) * float(outputs + inputs)
        return Ranked(outputs, inputs, losses.cpu().numpy(), costs, float(outputs * inputs))
    if shape not in times:
        times[shape] = time_ranks(outputs, inputs, largest)
    return Ranked(outputs, inputs, losses.cpu().numpy(), *times[shape])
