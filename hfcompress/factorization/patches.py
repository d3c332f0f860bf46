"""What convolutions read and give on calibration rows: moments of patches, the loss's gradient, sizes of images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm

from hfcompress.calibration.least_squares import WeightedSums
from hfcompress.calibration.sensitivity import surprise
from hfcompress.factorization.chains import padding_of
from hfcompress.modeling.statistics import check_finite

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from hfcompress.calibration import Batch
    from hfcompress.context import Context

_PLACES = 32
"""How many patches are looked at of an image, at random places, at most."""

_ALIKE = 1e-3
"""How far outputs count that no gradient on calibration rows sees, as a share of the mean: others may read them."""


@dataclass(frozen=True)
class Seen:
    """What was seen of one convolution.

    Args:
        mean: Of its patches, `(inputs · height · width,)`, in the order of its weight; 0 where nothing behind it can
            make up for what is lost on average.
        covariance: Of its patches, about that mean, `(inputs · height · width, inputs · height · width)`.
        gradient: Second moment of the loss's gradient with respect to its outputs, summed over an image's places,
            `(outputs, outputs)`; the identity, times the places, where the loss does not count.
        size: Height and width of what it reads.
        patches: How many were seen.
    """

    mean: Tensor
    covariance: Tensor
    gradient: Tensor
    size: tuple[int, int]
    patches: int


def look_at(
    model: PreTrainedModel,
    layers: Mapping[str, nn.Conv2d],
    batches: Sequence[Batch],
    context: Context,
    fisher: bool,
) -> dict[str, Seen]:
    """Run a model on calibration rows and return what was seen of its convolutions, by name.

    Args:
        model: In evaluation mode; stays as it is.
        layers: The convolutions, by name; none has groups, all pad with zeros.
        batches: What the model is called with.
        context: Gives task and seed.
        fisher: Whether outputs count by what the loss sees of them: the model's own surprise, so that no labels are
            needed.

    Raises:
        ModelError: Activations or gradients are NaN or infinite; the layer is named.
    """
    generator = torch.Generator().manual_seed(context.seed)
    found = {name: _Layer(name, layer, generator) for name, layer in layers.items()}
    signs = torch.Generator().manual_seed(context.seed)
    examples = sum(len(next(iter(batch.values()))) for batch in batches)
    bar = tqdm(batches, desc="looking at the model", unit="batch", disable=not context.progress)
    with _frozen(model), _listening(found), torch.set_grad_enabled(fisher):
        for batch in bar:
            inputs = {name: _from_here(values, fisher) for name, values in batch.items()}
            outputs = model(**inputs)
            if fisher:
                surprise(outputs, batch, context.task, signs).backward()
    return {name: layer.seen(norm_of(model, name) is not None, examples, fisher) for name, layer in found.items()}


def norm_of(model: nn.Module, name: str) -> nn.BatchNorm2d | None:
    """Return the batch norm that alone reads a convolution's outputs, as in ResNet and MobileNet; None without one."""
    place, _, last = name.rpartition(".")
    norm = getattr(model.get_submodule(place), "normalization", None) if last == "convolution" else None
    return norm if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None else None


def patches_of(layer: nn.Conv2d, values: Tensor, places: Tensor) -> Tensor:
    """Return what a convolution reads at some places, `(images · places, inputs · height · width)`.

    Args:
        layer: The convolution.
        values: What goes in, `(images, inputs, height, width)`.
        places: Numbers of its outputs' places, row by row.
    """
    top, left = padding_of(layer)
    values = functional.pad(values, (left, left, top, top))
    (height, width), (down, across), (first, second) = layer.kernel_size, layer.stride, layer.dilation
    columns = (values.shape[-1] - second * (width - 1) - 1) // across + 1
    rows_at = (places // columns * down)[:, None] + first * torch.arange(height).repeat_interleave(width)
    columns_at = (places % columns * across)[:, None] + second * torch.arange(width).repeat(height)
    return values[:, :, rows_at, columns_at].transpose(1, 2).flatten(0, 1).flatten(1)


class _Layer:
    """What is summed over the patches and places of one convolution."""

    def __init__(self, name: str, layer: nn.Conv2d, generator: torch.Generator) -> None:
        self.name, self.layer, self.generator = name, layer, generator
        self.sums = WeightedSums()
        self.gradient = torch.zeros(layer.out_channels, layer.out_channels, dtype=torch.float64)
        self.size = (0, 0)
        self.places = 0

    def hear(self, module: nn.Module, args: Any, output: Tensor) -> None:
        """Take what goes in into account, and what is to come back as a gradient."""
        values = args[0].detach()
        check_finite(values, self.name)
        self.size, self.places = (values.shape[2], values.shape[3]), output.shape[2] * output.shape[3]
        chosen = torch.randperm(self.places, generator=self.generator)[:_PLACES]
        patches = patches_of(self.layer, values, chosen).float()
        self.sums.add(patches, patches.new_ones(len(patches)))
        if output.requires_grad:
            output.register_hook(self.hear_gradient)

    def hear_gradient(self, gradient: Tensor) -> None:
        """Take the loss's gradient with respect to the outputs into account."""
        check_finite(gradient, self.name)
        vectors = gradient.detach().movedim(1, -1).flatten(0, -2).float()
        self.gradient += (vectors.T @ vectors).double().cpu()

    def seen(self, normed: bool, examples: int, fisher: bool) -> Seen:
        """Return what was found."""
        mean, covariance = self.sums.moments(centred=normed or self.layer.bias is not None)
        every = torch.eye(self.layer.out_channels, dtype=torch.float64)
        gradient = every * self.places
        if fisher:
            gradient = self.gradient / examples + _ALIKE * self.gradient.diagonal().mean() / examples * every
        return Seen(mean.cpu(), covariance.cpu(), gradient, self.size, round(self.sums.count))


@contextmanager
def _listening(found: Mapping[str, _Layer]) -> Iterator[None]:
    handles = [layer.layer.register_forward_hook(layer.hear) for layer in found.values()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _frozen(model: PreTrainedModel) -> Iterator[None]:
    """Let no gradient flow into weights."""
    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, state in before.items():
            parameter.requires_grad_(state)


def _from_here(values: Tensor, fisher: bool) -> Tensor:
    """Return inputs from which on gradients are followed: pixels."""
    return values.detach().clone().requires_grad_() if fisher and values.is_floating_point() else values
