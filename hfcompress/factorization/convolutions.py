"""Which of a model's convolutions become chains of smaller ones, at what ranks, and how they are put there."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from annotated_types import Ge, Gt
from torch import nn

from hfcompress.calibration import calibration_inputs, evaluating
from hfcompress.config import option
from hfcompress.errors import Fault, RequestError
from hfcompress.factorization.chains import dense_shapes
from hfcompress.factorization.comparing import comparing
from hfcompress.factorization.conv_clock import time_chains
from hfcompress.factorization.conv_ranks import choose_conv_ranks, note_conv_ranks
from hfcompress.factorization.findings import KEY, warn_of_few
from hfcompress.factorization.kernels import Kernel, Ranks
from hfcompress.factorization.patches import Seen, look_at, norm_of
from hfcompress.factorization.ranks import RankOptions
from hfcompress.measure.size import empty_model
from hfcompress.modeling.factors import put_chains
from hfcompress.modeling.linear import matrix
from hfcompress.modeling.low_rank import ConvChain, chain_of, whole_name
from hfcompress.modeling.targets import TargetOptions, distinct, refuse_nan, targets_of
from hfcompress.naming import brief_names, first_few

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from hfcompress.context import Context

Decompose = Callable[[nn.Conv2d, Seen], Kernel]
"""What a method makes of one convolution."""


@dataclass
class ConvOptions(TargetOptions, RankOptions):
    """Which convolutions are factorized, how far, and on how many images; a base of the methods' configs."""

    examples: Annotated[int, Ge(2)] = option(512, help="training rows to look at the model with; labels are not used")
    batch_size: Annotated[int, Gt(0)] = option(32, help="rows in a batch")
    fisher: bool = option(True, help="count errors by what the loss sees of them")
    plain: bool = option(False, help="stay nearest to the weights, not to the outputs; ranks still know the data")

    def check(self) -> None:
        """Look across the fields.

        Raises:
            RequestError: Not exactly one of the ways to choose ranks is given.
        """
        self.check_ranks()

    def layers_of(self, model: PreTrainedModel, context: Context) -> dict[str, nn.Conv2d]:
        """Return the convolutions to factorize, by name; without filters all, those outside the layers as well.

        Raises:
            RequestError: There are none, the filters match none, or what they match is a chain already.
            ModelError: Weights are NaN or infinite, or the architecture has no row and layers are named.
        """
        if not any(isinstance(module, nn.Conv2d) for module in model.modules()):
            problem = f"this {model.config.model_type} has no convolutions of images, and this method has no others."
            fix = "It works on ResNet, MobileNet and ViT's patch embedding; for linear layers choose activation."
            raise RequestError(Fault("method", problem, fix))
        everything = ["*"] if self.layers is None and self.modules is None else self.modules
        found = distinct(targets_of(model, self.layers, everything, self.exclude, (nn.Conv2d,)))
        chains = dict.fromkeys(whole_name(model, name) for name in found if whole_name(model, name) != name)
        if chains:
            problem = f"{len(chains)} of these convolutions are chains already, such as '{next(iter(chains))}'."
            fix = "Exclude them, or multiply them out first: hfcompress.merge(model)."
            raise RequestError(Fault("exclude", problem, fix))
        fit = {name: module for name, module in found.items() if type(module) is nn.Conv2d and _fits(module)}
        if not fit:
            problem = f"none of these convolutions can be factorized: {brief_names(list(found))}."
            fix = "They have groups, as depthwise ones have, or pad with other numbers than zeros: choose others."
            raise RequestError(Fault("modules", problem, fix))
        if len(fit) < len(found):
            left = brief_names([name for name in found if name not in fit])
            context.say(f"{len(found) - len(fit)} of {len(found)} convolutions stay as they are, with groups: {left}")
        refuse_nan(dict(fit))
        return fit


def _fits(layer: nn.Conv2d) -> bool:
    """Say whether a convolution reads all channels, and beyond the edges zeros, on both sides as many."""
    odd = all(size % 2 for size in layer.kernel_size) or layer.padding != "same"
    return layer.groups == 1 and layer.padding_mode == "zeros" and odd


def factorize_convolutions(
    model: PreTrainedModel, config: ConvOptions, context: Context, decompose: Decompose
) -> PreTrainedModel:
    """Put chains in the place of the convolutions that gain by it, and note what that does to the answers.

    What a chain gives less on average is made up for in its bias, or in the running mean of the batch norm behind it:
    `(W − M) E[x]`, exactly.

    Args:
        model: Changed in place.
        config: Which convolutions, their ranks, on how many images.
        context: Gives the images, and gets the findings.
        decompose: Makes of a convolution, and what was seen of it, a kernel at every rank.

    Raises:
        RequestError: There are no convolutions, the filters match none, or the budget cannot be met.
        DataError: There are too few rows.
        ModelError: Weights, activations or gradients are NaN or infinite; the layer is named.
    """
    kernels = _kernels(model, config, context, decompose)
    ranks = _ranks(kernels, config, context)
    with comparing(model, context):
        for name, chosen in ranks.items():
            kernel = kernels.pop(name)
            _put(model, name, kernel, kernel.chain(chosen))
    return model


def predict_convolutions(
    model: PreTrainedModel, config: ConvOptions, context: Context, decompose: Decompose
) -> PretrainedConfig:
    """Return the config of the model that `factorize_convolutions` would make; note what loss and time are expected."""
    kernels = _kernels(model, config, context, decompose)
    ranks = _ranks(kernels, config, context)
    context.findings[KEY] |= _milliseconds(kernels, ranks)
    skeleton = empty_model(copy.deepcopy(model.config), context.task)
    chains = {
        name: chain_of(kernels[name].shapes(chosen), kernels[name].layer.bias is not None, device="meta")
        for name, chosen in ranks.items()
    }
    put_chains(skeleton, chains)
    return skeleton.config


def _milliseconds(kernels: Mapping[str, Kernel], ranks: Mapping[str, Ranks]) -> dict[str, float]:
    """Return how long the convolutions take, one image after each, as they are and with their ranks."""
    before = after = 0.0
    for name, kernel in kernels.items():
        dense = dense_shapes(kernel.layer)
        chain = kernel.shapes(ranks[name]) if name in ranks else dense
        (time,), whole = time_chains(dense, [chain], kernel.seen.size)
        before += whole
        after += float(time) if name in ranks else whole
    return {"milliseconds": after, "dense_milliseconds": before}


def _kernels(model: PreTrainedModel, config: ConvOptions, context: Context, decompose: Decompose) -> dict[str, Kernel]:
    """Look at the model, which stays as it is."""
    layers = config.layers_of(model, context)
    with evaluating(model):
        batches = calibration_inputs(model, context, config.examples, config.batch_size)
        seen = look_at(model, layers, batches, context, config.fisher)
    return {name: decompose(layer, seen[name]) for name, layer in layers.items()}


def _ranks(kernels: Mapping[str, Kernel], config: ConvOptions, context: Context) -> dict[str, Ranks]:
    """Choose the ranks of the layers that gain, and tell which do not."""
    ranks = choose_conv_ranks(kernels, config)
    note_conv_ranks(context, kernels, ranks, config)
    dense = [name for name, chosen in ranks.items() if chosen is None]
    if dense:
        why = "which loses least within the budget" if config.budget else "since they would not become smaller"
        if config.rank is not None:
            largest = {layer["name"]: layer["largest"] for layer in context.findings[KEY]["layers"]}
            limits = first_few({f"{largest[one]} at {_shape(kernels[one].layer)}" for one in dense})
            why += f"; the largest rank that does is {limits}"
        context.say(f"{len(dense)} of {len(ranks)} convolutions stay dense, {why}: {brief_names(dense)}")
    chains = {name: chosen for name, chosen in ranks.items() if chosen is not None}
    warn_of_few(
        {name: max(chosen) for name, chosen in chains.items()},
        {name: kernels[name].seen.patches for name in chains},
        "patches",
    )
    return chains


def _shape(layer: nn.Conv2d) -> str:
    return " x ".join(map(str, layer.weight.shape))


@torch.no_grad()
def _put(model: PreTrainedModel, name: str, kernel: Kernel, chain: ConvChain) -> None:
    """Put a chain into a model, and make up for what it gives less on average."""
    lost = kernel.matrix - matrix(chain.dense()).double().cpu()
    shift, norm = lost @ kernel.seen.mean, norm_of(model, name)
    put_chains(model, {name: chain})
    if chain.bias is not None:
        chain.bias.add_(shift.to(chain.bias))
    elif norm is not None and norm.running_mean is not None:
        norm.running_mean.sub_(shift.to(norm.running_mean))
