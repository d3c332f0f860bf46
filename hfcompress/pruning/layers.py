"""Whole layers: those that change the hidden states least, or the loss, are left out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch.nn.functional import cosine_similarity, mse_loss

from hfcompress.calibration import calibration_batches, evaluating, model_inputs
from hfcompress.config import option
from hfcompress.errors import Fault, ModelError, RequestError
from hfcompress.modeling.cut import cut, cut_config
from hfcompress.modeling.families import stacks_of
from hfcompress.modeling.layer_patterns import fitting_layers, stack_depths
from hfcompress.modeling.statistics import counted, token_masks
from hfcompress.registry import register

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PretrainedConfig, PreTrainedModel

    from hfcompress.calibration import Batch
    from hfcompress.context import Context


@dataclass
class LayersConfig:
    """Options of `layers`."""

    count: Annotated[int, Ge(0)] | None = option(None, help="how many layers are dropped; either this or keep")
    keep: Annotated[int, Ge(1)] | None = option(None, help="how many layers stay; either this or count")
    by: Literal["loss", "similarity"] = option(
        "loss",
        help="loss: one after another, the layer without which the loss on labelled rows is least; similarity: those "
        "that turn the hidden states least",
    )
    candidates: Annotated[int, Ge(1)] = option(
        8, help="by loss: among how many layers, those that turn the hidden states least, each is chosen"
    )
    stack: Literal["encoder", "decoder"] | None = option(
        None, help="of an encoder-decoder, whose layers; default: the decoder's, which runs once for every token"
    )
    examples: Annotated[int, Ge(1)] = option(256, help="training rows to look at the model with")
    batch_size: Annotated[int, Ge(1)] = option(32, help="rows in a batch")

    def check(self) -> None:
        """Look across the fields.

        Raises:
            RequestError: Not exactly one of count and keep is given.
        """
        if (self.count is None) == (self.keep is None):
            given = "neither is" if self.count is None else "both are"
            problem = f"count or keep decides how many layers are dropped, and {given} given."
            raise RequestError(Fault("count", problem, "Give count (layers to drop) or keep (layers that stay)."))

    def left_of(self, depth: int) -> int:
        """Return how many of a model's layers stay.

        Raises:
            RequestError: None would, or there are fewer than are to stay.
        """
        left = self.keep if self.keep is not None else depth - (self.count or 0)
        if not 1 <= left <= depth:
            where, given = ("keep", self.keep) if self.keep is not None else ("count", self.count)
            allowed = f"1 to {depth}" if self.keep is not None else f"0 to {depth - 1}: one has to stay"
            raise RequestError(Fault(where, f"the model has {depth} layers, got {given}.", f"Allowed: {allowed}."))
        return left


@dataclass(frozen=True)
class _Stack:
    """The layers that are chosen from.

    Args:
        number: 0, or 1 for the decoder of an encoder-decoder.
        depths: The number of layers of each stack.
    """

    number: int
    depths: tuple[int, ...]

    @property
    def depth(self) -> int:
        return self.depths[self.number]

    def choice(self, kept: Sequence[int]) -> list[list[int]]:
        """Return what `cut` takes: the layers that stay in each stack."""
        whole = [list(range(depth)) for depth in self.depths]
        return [list(kept) if number == self.number else layers for number, layers in enumerate(whole)]

    def can_keep(self, config: PretrainedConfig, kept: Sequence[int]) -> bool:
        """Say whether a config can express that only some layers stay."""
        try:
            cut_config(config, *self.choice(kept))
        except ModelError:
            return False
        return True


def plan(config: LayersConfig, model: PretrainedConfig, _: Any) -> PretrainedConfig:
    """Return the config of a model with as many layers; which they are shows when it runs."""
    stack = _chosen_stack(config, model)
    left = config.left_of(stack.depth)
    kept = fitting_layers(left, model, stack.depth)
    return cut_config(model, *stack.choice(kept if stack.can_keep(model, kept) else range(left)))


@register("pruning", "layers", LayersConfig, plan)
def layers(model: PreTrainedModel, config: LayersConfig, context: Context) -> PreTrainedModel:
    """Drop whole layers: those without which the loss on a few hundred rows is least (one-shot).

    Layers are ranked by the angle between their input and their output, `arccos(cos(x, y)) / π` on average over all
    tokens that are no padding: Gromov et al. 2024, "The Unreasonable Ineffectiveness of the Deeper Layers", arXiv
    2403.17887, equation 7; its cosine is the block influence of Men et al. 2024, "ShortGPT", arXiv 2403.03853. By loss,
    the layer among the first `candidates` whose loss is least is dropped, and so on without it. Only what the config
    can express is chosen: ModernBERT keeps its first layer, for example, and what comes out is a stock checkpoint.

    Args:
        model: The model; it is left as it is.
        config: How many layers, and how they are chosen.
        context: Gives the calibration rows.

    Returns:
        A smaller model; the same one if no layer is dropped.

    Raises:
        RequestError: More layers are to be dropped than there are.
        ModelError: The architecture cannot be cut, or its hidden states or loss are NaN or infinite.
    """
    stack = _chosen_stack(config, model.config)
    left = config.left_of(stack.depth)
    if left == stack.depth:
        return model
    labelled = context.task.has_task_loss
    batches = calibration_batches(model, context, config.examples, config.batch_size, labelled=labelled)
    with evaluating(model), torch.no_grad():
        turned = distances(model, stack.number, context, batches)
        ranking = sorted(range(stack.depth), key=lambda layer: turned[layer])
        kept = list(range(stack.depth))
        whole = None if context.task.has_task_loss else _answers(model, context, batches)
        while len(kept) > left:
            possible = [layer for layer in ranking if layer in kept and stack.can_keep(model.config, _but(kept, layer))]
            if config.by == "similarity":
                kept = _but(kept, possible[0])
                continue
            losses = {
                layer: _loss(cut(model, *stack.choice(_but(kept, layer))), context, batches, whole)
                for layer in possible[: config.candidates]
            }
            kept = _but(kept, min(losses, key=lambda layer: losses[layer]))
    return cut(model, *stack.choice(kept))


@torch.no_grad()
def distances(model: PreTrainedModel, stack: int, context: Context, batches: Sequence[Batch]) -> list[float]:
    """Return by how much each layer of a stack turns its input: the mean angle over tokens, as a share of π.

    Raises:
        ModelError: Hidden states are NaN or infinite; the layer is named.
    """
    modules = stacks_of(model)[stack][1]
    side: Literal["encoder", "decoder"] = "decoder" if stack else "encoder"
    states: list[tuple[Tensor, Tensor]] = []  # in the order in which layers run; shared weights run several times

    def keep(_: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        states.append(
            (args[0] if args else kwargs["hidden_states"], output[0] if isinstance(output, tuple) else output)
        )

    handles = [module.register_forward_hook(keep, with_kwargs=True) for module in modules]
    totals: Tensor | float = 0.0
    tokens = 0
    try:
        for batch in batches:
            inputs = model_inputs(model, context, batch)
            states.clear()
            model(**inputs)
            # SqueezeBERT goes past the hooks: it calls its layers' `forward`.
            pairs = states or itertools.pairwise(model(**inputs, output_hidden_states=True).hidden_states)
            mask = token_masks(model, inputs)[side]
            angles = [_angle(before, after, mask) for before, after in pairs]
            totals = totals + torch.stack([angle.sum() for angle in angles])
            tokens += len(angles[0])
    finally:
        for handle in handles:
            handle.remove()
    found = [float(total) / max(tokens, 1) for total in torch.as_tensor(totals)]
    wrong = [layer for layer, value in enumerate(found) if not math.isfinite(value)]
    if wrong:
        problem = f"the hidden states of layer {wrong[0]} are NaN or infinite on the calibration rows."
        raise ModelError(Fault("", problem, "Start from a sound checkpoint, or use float32 instead of half precision."))
    return found


def _angle(before: Tensor, after: Tensor, mask: Tensor | None) -> Tensor:
    """Return the angle between the states of each token that counts, as a share of π, `(tokens,)`."""
    old, new = (counted(states, mask).double() for states in (before, after))
    return cosine_similarity(old, new, dim=-1).clamp(-1, 1).arccos() / math.pi


def _chosen_stack(config: LayersConfig, model: PretrainedConfig) -> _Stack:
    """Return the stack that layers are dropped from.

    Raises:
        RequestError: One is asked for that the model does not have.
        ModelError: The architecture cannot be cut.
    """
    depths = stack_depths(model)
    if config.stack is not None and len(depths) == 1:
        problem = f"{model.model_type} has one stack of layers, so that '{config.stack}' says nothing."
        raise RequestError(Fault("stack", problem, "Leave it out."))
    return _Stack(1 if len(depths) > 1 and config.stack != "encoder" else 0, depths)


def _but(kept: Sequence[int], layer: int) -> list[int]:
    return [number for number in kept if number != layer]


def _answers(model: PreTrainedModel, context: Context, batches: Sequence[Batch]) -> list[Tensor]:
    """Return what a model without a loss of its own answers: the hidden states of all tokens, batch by batch."""
    found = []
    for batch in batches:
        inputs = model_inputs(model, context, batch)
        found.append(counted(model(**inputs)[0], inputs.get("attention_mask")))
    return found


def _loss(model: PreTrainedModel, context: Context, batches: Sequence[Batch], whole: Sequence[Tensor] | None) -> float:
    """Return the mean task loss; for a task without one, how far the answers are from those of the whole model."""
    if whole is not None:
        own = _answers(model, context, batches)
        return float(mse_loss(torch.cat(own), torch.cat(list(whole))))
    total, labels = 0.0, 0
    for batch in batches:
        inputs = model_inputs(model, context, batch, labels=True)
        many = int(context.task.count_labels(batch))
        total += float(model(**inputs).loss) * many if many else 0.0
        labels += many
    loss = total / max(labels, 1)
    return loss if math.isfinite(loss) else math.inf
