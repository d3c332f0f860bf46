"""How the loss depends on a model's layers: moments of what goes into them, and of the loss's gradient behind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from hfcompress.calibration.least_squares import WeightedSums
from hfcompress.calibration.rows import Batch
from hfcompress.memory import give_back
from hfcompress.modeling.linear import channels_in, channels_out, is_convolution, matrix, weight_of
from hfcompress.modeling.statistics import check_answers, check_finite, counted, token_masks, tokens_read

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from hfcompress.tasks import Task


@dataclass
class Sensitivity:
    """What is known of a linear layer.

    Args:
        mean: Of its input, `(channels,)`, each token weighted as `weights` says; 0 where the layer has no bias to make
            up for it.
        covariance: Of its input, `(channels, channels)`, weighted alike, about that mean. On the narrow side of a layer
            with no more outputs than inputs: of its output, `(outputs, outputs)`.
        gradient: Second moment of the loss's gradient with respect to its output, `(outputs, outputs)`, summed over an
            example's tokens. On the narrow side of a layer with more outputs than inputs: of the gradient that comes
            through it to its input, `Wᵀ g`, `(channels, channels)`.
        weights: By call the weight of each token that counts, `(tokens,)`, 1 on average.
    """

    mean: Tensor
    covariance: Tensor
    gradient: Tensor
    weights: list[Tensor]


def measure_sensitivity(
    model: PreTrainedModel,
    modules: Sequence[str],
    batches: Sequence[Batch],
    task: Task,
    focus: float,
    seed: int,
    progress: bool = False,
    narrow: bool = False,
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
        narrow: Take the moments of each layer's narrow side, its outputs or its inputs, which is less memory and work;
            for linear layers alone.

    Returns:
        By module.

    Raises:
        ModelError: Activations or gradients are NaN or infinite; the layer is named.
    """
    layers = {name: _Layer(model.get_submodule(name), narrow) for name in modules}
    generator = torch.Generator().manual_seed(seed)
    bar = tqdm(total=2 * len(batches), desc="looking at the model", unit="batch", disable=not progress)

    def hear_gradient(name: str, given: Tensor, output: Tensor, mask: Tensor | None) -> None:
        layers[name].await_gradient(name, output, mask)

    with differentiable(model), listening(model, modules, hear_gradient) as run, torch.enable_grad():
        for batch in batches:
            surprise(run(batch), batch, task, generator).backward()
            bar.update()
    give_back()
    for layer in layers.values():
        layer.weigh(focus)

    def hear(name: str, given: Tensor, output: Tensor, mask: Tensor | None) -> None:
        layers[name].add(given, output, mask)

    with torch.no_grad(), listening(model, modules, hear) as run:
        for batch in batches:
            run(batch)
            bar.update()
    bar.close()
    give_back()
    examples = sum(len(next(iter(batch.values()))) for batch in batches)
    return {name: layers.pop(name).sensitivity(examples) for name in modules}  # each one's sums go as its result comes


class _Layer:
    """What is summed over the tokens of one layer.

    Sums are there before what they sum: memory that comes and goes between what stays is not given back.

    Args:
        module: The layer.
        narrow: Whether to sum on its narrow side.
    """

    def __init__(self, module: nn.Module, narrow: bool) -> None:
        self.module = module
        self.through = narrow and channels_out(module) > channels_in(module)
        self.behind = narrow and not self.through
        self.gradient = self._square(channels_in(module) if self.through else channels_out(module))
        self.norms: list[Tensor] = []
        self.weights: list[Tensor] = []
        self.seen, self.inputs = WeightedSums(), WeightedSums(squared=False)

    def _square(self, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(width, width, dtype=dtype, device=weight_of(self.module).device)

    def _tokens(self, values: Tensor, mask: Tensor | None) -> Tensor:
        return counted(values.detach(), mask, is_convolution(self.module))

    def await_gradient(self, name: str, output: Tensor, mask: Tensor | None) -> None:
        """Take the gradient of an output into account, once there is one."""
        place, count = len(self.norms), len(self._tokens(output, mask))
        self.norms.append(output.new_zeros(count))  # it stays where nothing depends on the output

        def note(gradient: Tensor) -> None:
            check_finite(gradient, name)
            vectors = self._tokens(gradient, mask)
            self.norms[place] = vectors.square().sum(-1)
            vectors = vectors @ matrix(self.module) if self.through else vectors
            self.gradient.addmm_(vectors.T, vectors)

        if output.requires_grad:
            output.register_hook(note)

    def weigh(self, focus: float) -> None:
        """Give each token its weight, call by call: partly 1, partly by its gradient's square."""
        mean = torch.cat(self.norms).mean().clamp(min=torch.finfo(torch.float32).tiny)
        self.weights = [(1 - focus) + focus * norms / mean for norms in self.norms]
        self.norms = []
        width = channels_out(self.module) if self.behind else channels_in(self.module)
        self.seen.squares = self._square(width, torch.float64)
        self._left = iter(self.weights)

    def add(self, given: Tensor, output: Tensor, mask: Tensor | None) -> None:
        """Take what went in, or came out, into account."""
        inputs, weights = self._tokens(given, mask), next(self._left)
        self.seen.add(self._tokens(output, mask) if self.behind else inputs, weights)
        self.inputs.add(inputs, weights)

    def sensitivity(self, examples: int) -> Sensitivity:
        """Return what was found."""
        biased = self.module.bias is not None
        _, covariance = self.seen.moments(centred=biased)
        return Sensitivity(self.inputs.average(centred=biased), covariance, self.gradient / examples, self.weights)


def surprise(outputs: Any, batch: Batch, task: Task, generator: torch.Generator) -> Tensor:
    """Return a scalar whose squared gradient is, on average over random signs, the Fisher information of the answers.

    With answers `c` of probability `p_c` it is `Σ ε_c √p_c log p_c`, `ε_c = ±1`: the mean of its gradient's outer
    product is `Σ p_c ∇log p_c ∇log p_cᵀ`. For numbers (regressions, embeddings) it is `Σ ε y`, the Fisher information
    of a normal distribution around them.
    """
    logits, _ = task.rows(outputs, getattr(batch, "asked", batch))
    classes = logits is not None and logits.shape[-1] > 1
    values = logits.float() if logits is not None else next(iter(outputs.values())).float()
    signs = torch.randint(0, 2, values.shape, generator=generator).to(values.device) * 2.0 - 1.0
    if not classes:
        return (signs * values).sum()
    logs = values.log_softmax(-1)
    return (signs * logs.detach().exp().sqrt() * logs).sum()


Hear = Callable[[str, Tensor, Tensor, "Tensor | None"], None]
"""Told each time that a layer runs: its name, what goes in, what comes out, which tokens count `(batch, seq)`."""


@contextmanager
def listening(model: PreTrainedModel, modules: Iterable[str], hear: Hear) -> Iterator[Callable[[Batch], Any]]:
    """Hear some layers while the model runs.

    Yields:
        A function that runs the model on a batch and returns its outputs.

    Raises:
        ModelError: While the model runs: numbers that go into a layer, or answers, are NaN or infinite; the layer is
            named.
    """
    masks: dict[str, Tensor | None] = {}
    handles = []
    for place in modules:
        side = tokens_read(model, place)

        def note(module: nn.Module, args: Any, output: Tensor, name: str = place, side: str = side) -> None:
            check_finite(args[0], name)
            hear(name, args[0].detach(), output, masks[side])

        handles.append(model.get_submodule(place).register_forward_hook(note))

    def run(batch: Batch) -> Any:
        masks.update(token_masks(model, batch))
        outputs = model(**batch)
        check_answers(model, outputs, batch)
        return outputs

    try:
        yield run
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def differentiable(model: PreTrainedModel) -> Iterator[None]:
    """Let gradients flow through the activations, from the input embeddings or the pixels on, and into no weight."""
    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        embeddings = set(model.get_input_embeddings().parameters())
    except NotImplementedError:  # ResNet and MobileNet
        embeddings = set()
    for parameter in before:
        parameter.requires_grad_(False)
    handles = [
        module.register_forward_hook(_begin)
        for module in model.modules()
        if embeddings.intersection(module.parameters(recurse=False))
    ]
    if not embeddings:
        handles.append(model.register_forward_pre_hook(_begin_at_pixels, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for parameter, state in before.items():
            parameter.requires_grad_(state)


def _begin(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    """Return a layer's output as one that gradients flow to; not the leaf itself, which nobody may change in place."""
    return output.requires_grad_().clone() if output.is_floating_point() else output


def _begin_at_pixels(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return a model's inputs with pixels that gradients flow to."""
    return args, {
        name: value.detach().clone().requires_grad_()
        if isinstance(value, Tensor) and value.is_floating_point()
        else value
        for name, value in kwargs.items()
    }
