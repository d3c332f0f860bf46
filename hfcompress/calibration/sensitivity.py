"""How the loss depends on a model's layers: moments of what goes into them, and of the loss's gradient behind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from hfcompress.calibration.least_squares import WeightedSums
from hfcompress.calibration.rows import Batch
from hfcompress.modeling.linear import is_convolution
from hfcompress.modeling.statistics import check_finite, counted, token_masks, tokens_read

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from hfcompress.tasks import Task


@dataclass
class Sensitivity:
    """What is known of a linear layer.

    Args:
        mean: Of its input, `(channels,)`, each token weighted as `weights` says; 0 where the layer has no bias to make
            up for it.
        covariance: Of its input, `(channels, channels)`, weighted alike, about that mean.
        gradient: Second moment of the loss's gradient with respect to its output, `(outputs, outputs)`, summed over an
            example's tokens.
        weights: By call the weight of each token that counts, `(tokens,)`, 1 on average.
    """

    mean: Tensor
    covariance: Tensor
    gradient: Tensor
    weights: list[Tensor]


@dataclass
class _Sums(WeightedSums):
    gradient: Any = 0.0
    norms: list[Tensor] = field(default_factory=list)


def measure_sensitivity(
    model: PreTrainedModel,
    modules: Sequence[str],
    batches: Sequence[Batch],
    task: Task,
    focus: float,
    seed: int,
    progress: bool = False,
) -> dict[str, Sensitivity]:
    """Look at some of a model's layers on calibration rows: once for gradients, once for inputs.

    The loss is the model's own surprise: the Fisher information of its answers (Kwon et al. 2022, arXiv 2204.09656,
    equation 5, with the model's answers in place of labels), so that no labels are needed.

    Args:
        model: The dense model.
        modules: Linear layers or convolutions, by their names in it.
        batches: What the model is called with.
        task: Says what of its outputs are the answers.
        focus: How far the inputs of tokens count by the gradient there: 0 all alike, 1 by its square alone.
        seed: Of the random signs.
        progress: Show a bar on stderr.

    Returns:
        By module.

    Raises:
        ModelError: Activations or gradients are NaN or infinite; the layer is named.
    """
    sums = {name: _Sums() for name in modules}
    generator = torch.Generator().manual_seed(seed)
    bar = tqdm(total=2 * len(batches), desc="looking at the model", unit="batch", disable=not progress)
    with differentiable(model), listening(model, modules) as heard:
        for batch in batches:
            with torch.enable_grad():
                surprise(model(**batch), batch, task, generator).backward()
            for name in modules:
                for _, output in heard.take(name):
                    gradient = torch.zeros_like(output) if output.grad is None else output.grad  # nothing depends on it
                    _add_gradient(sums[name], heard.counted(model, name, batch, gradient))
            bar.update()
    weights = {name: _weights(found, focus) for name, found in sums.items()}
    with torch.no_grad(), listening(model, modules) as heard:
        left = {name: iter(found) for name, found in weights.items()}
        for batch in batches:
            model(**batch)
            for name in modules:
                for given, _ in heard.take(name):
                    sums[name].add(heard.counted(model, name, batch, given), next(left[name]))
            bar.update()
    bar.close()
    examples = sum(len(next(iter(batch.values()))) for batch in batches)
    biased = {name: model.get_submodule(name).bias is not None for name in modules}
    return {name: _sensitivity(found, weights[name], examples, biased[name]) for name, found in sums.items()}


def surprise(outputs: Any, batch: Batch, task: Task, generator: torch.Generator) -> Tensor:
    """Return a scalar whose squared gradient is, on average over random signs, the Fisher information of the answers.

    With answers `c` of probability `p_c` it is `Σ ε_c √p_c log p_c`, `ε_c = ±1`: the mean of its gradient's outer
    product is `Σ p_c ∇log p_c ∇log p_cᵀ`. For numbers (regressions, embeddings) it is `Σ ε y`, the Fisher information
    of a normal distribution around them.
    """
    logits, _ = task.rows(outputs, batch)
    classes = logits is not None and logits.shape[-1] > 1
    values = logits.float() if logits is not None else next(iter(outputs.values())).float()
    signs = torch.randint(0, 2, values.shape, generator=generator).to(values.device) * 2.0 - 1.0
    if not classes:
        return (signs * values).sum()
    several = batch.get("labels") is not None and batch["labels"].is_floating_point() and batch["labels"].dim() == 2
    if several:  # each class by itself, present or not: p(1 - p) is the information of its logit
        chance = values.detach().sigmoid()
        return (signs * (chance * (1 - chance)).sqrt() * values).sum()
    logs = values.log_softmax(-1)
    return (signs * logs.detach().exp().sqrt() * logs).sum()


class Heard:
    """What went into the layers and came out in the latest run, call by call."""

    def __init__(self) -> None:
        self.calls: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def take(self, name: str) -> list[tuple[Tensor, Tensor]]:
        """Return inputs and outputs of a layer, and forget them."""
        return self.calls.pop(name, [])

    def counted(self, model: PreTrainedModel, name: str, batch: Batch, values: Any) -> Tensor:
        """Return those vectors that are no padding's, `(tokens, width)`.

        Raises:
            ModelError: There are numbers among them that are NaN or infinite.
        """
        check_finite(values, name)
        mask = token_masks(model, batch)[tokens_read(model, name)]
        return counted(values.detach(), mask, is_convolution(model.get_submodule(name)))


@contextmanager
def listening(model: PreTrainedModel, modules: Iterable[str]) -> Iterator[Heard]:
    """Keep what goes into some layers and comes out; outputs keep their gradients.

    Raises:
        ModelError: While the model runs: numbers that go in are NaN or infinite; the layer is named.
    """
    heard = Heard()
    handles = []
    for place in modules:

        def hear(module: nn.Module, args: Any, output: Tensor, name: str = place) -> None:
            check_finite(args[0], name)
            if output.requires_grad:
                output.retain_grad()
            heard.calls.setdefault(name, []).append((args[0].detach(), output))

        handles.append(model.get_submodule(place).register_forward_hook(hear))
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def differentiable(model: PreTrainedModel) -> Iterator[None]:
    """Let gradients flow through the activations, and into no weight but the input embeddings' own."""
    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    embeddings = set(model.get_input_embeddings().parameters())
    for parameter in before:
        parameter.requires_grad_(parameter in embeddings)
    try:
        yield
    finally:
        for parameter, state in before.items():
            parameter.requires_grad_(state)
            if parameter in embeddings:
                parameter.grad = None


def _add_gradient(sums: _Sums, gradient: Tensor) -> None:
    sums.gradient = sums.gradient + (gradient.T @ gradient).double()
    sums.norms.append(gradient.square().sum(-1))


def _weights(sums: _Sums, focus: float) -> list[Tensor]:
    """Return each token's weight, call by call: partly 1, partly by its gradient's square."""
    mean = torch.cat(sums.norms).mean().clamp(min=torch.finfo(torch.float32).tiny)
    return [(1 - focus) + focus * norms / mean for norms in sums.norms]


def _sensitivity(sums: _Sums, weights: list[Tensor], examples: int, biased: bool) -> Sensitivity:
    return Sensitivity(*sums.moments(centred=biased), sums.gradient / examples, weights)
