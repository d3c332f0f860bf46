"""The `head_size` step: attention heads made narrower, by plain linear layers, with data or without."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import numpy as np
from annotated_types import Gt

from hfcompress.calibration import calibration_inputs, evaluating
from hfcompress.calibration.sensitivity import measure_sensitivity
from hfcompress.config import option
from hfcompress.errors import Fault, ModelError, RequestError
from hfcompress.factorization.comparing import comparing
from hfcompress.factorization.findings import DIVERGENCE, KEY, PRODUCTS, Loss, note_curves, note_ranks
from hfcompress.factorization.head_clock import expected_time, shape_of, time_widths
from hfcompress.factorization.heads import HeadCuts, cut_by_data, cut_by_weights
from hfcompress.factorization.layers import KINDS, SeenOptions, refuse_convolutional
from hfcompress.factorization.ranks import Ranked, Share, choose_ranks
from hfcompress.measure.size import empty_model
from hfcompress.modeling.groups import scales_scores
from hfcompress.modeling.linear import weight_of
from hfcompress.modeling.low_rank import LowRankLinear
from hfcompress.modeling.narrow_heads import Affine, Attention, Heads, attentions_of, put_heads, read_heads
from hfcompress.modeling.targets import refuse_nan
from hfcompress.naming import brief_names
from hfcompress.registry import register

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from hfcompress.context import Context


_FAMILIES = {
    *("albert", "bart", "bert", "distilbert", "electra", "gpt2", "mobilebert", "mpnet"),
    *("mt5", "roberta", "t5", "vit", "xlm-roberta"),
}
"""Families whose scores are products of queries and keys as the linear layers give them."""

_ROTARY = "rotary positions turn queries and keys in their full width"
_WHY_NOT = {
    **dict.fromkeys(("llama", "modernbert", "qwen2", "qwen3"), _ROTARY),
    "deberta-v2": "scores are also products with positions, which are projected to the heads' width",
    "squeezebert": "queries, keys and values come from grouped convolutions",
}

_FOCUS = 0.5
"""How far tokens count by what depends on them, as `activation` has it by default."""


@dataclass
class HeadSizeConfig(SeenOptions):
    """Options of `head_size`."""

    rank: Annotated[int, Gt(0)] | None = option(None, help="the width of every head")
    rank_ratio: Share | None = option(None, help="width of every head as a share of what it is")
    energy: Share | None = option(None, help="the smallest width that keeps this share of what heads give: 0.99")
    multiple: Annotated[int, Gt(0)] = option(4, help="widths are multiples of this")
    data: bool = option(True, help="look at the training rows; without them the weights alone decide")

    def attentions(self, model: PreTrainedModel) -> list[Attention]:
        """Return the attentions that are changed: those of which every linear layer is chosen.

        Raises:
            RequestError: The filters match nothing, no whole attention, or what is of low rank already.
            ModelError: Weights are NaN or infinite, or the architecture's heads cannot be made narrower.
        """
        refuse_convolutional(model)
        _check_family(model)
        names = self.chosen(model, KINDS)
        found, thin = [], []
        for attention in attentions_of(model):
            layers = {name: model.get_submodule(name) for name in attention.layers}
            inside = {
                name: [f"{name}.down", f"{name}.up"] if isinstance(layer, LowRankLinear) else [name]
                for name, layer in layers.items()
            }
            if {one for parts in inside.values() for one in parts} <= {*names}:
                found.append(attention)
                thin += [name for name, parts in inside.items() if len(parts) > 1]
        if thin:
            problem = f"{len(thin)} of these layers are of low rank already, such as '{thin[0]}'."
            fix = "Exclude them, or multiply them out first: hfcompress.merge(model)."
            raise RequestError(Fault("exclude", problem, fix))
        if not found:
            fix = "Choose all of an attention's linear layers, or give neither modules nor exclude."
            raise RequestError(Fault("modules", "they hold no attention as a whole.", fix))
        refuse_nan({name: model.get_submodule(name) for one in found for name in one.layers})
        return found

    @property
    def loss(self) -> Loss:
        """What is made least."""
        return DIVERGENCE if self.data else PRODUCTS


def predict_head_size(model: PreTrainedModel, config: HeadSizeConfig, context: Context) -> PretrainedConfig:
    """Return the config of the model that `head_size` would make, and note what loss and time are expected.

    Raises:
        As `head_size`.
    """
    attentions, _, _, widths = _look(model, config, context)
    context.findings[KEY] |= expected_time(model, attentions, widths, config.multiple)
    skeleton = empty_model(copy.deepcopy(model.config), context.task)
    put_heads(
        skeleton, {one.group: _nothing(model, one, widths[one.group]) for one in attentions if one.group in widths}
    )
    return skeleton.config


@register("factorization", "head_size", HeadSizeConfig, predict=predict_head_size)
def head_size(model: PreTrainedModel, config: HeadSizeConfig, context: Context) -> PreTrainedModel:
    """Make attention heads narrower: `W_Qᵀ W_K` and `W_O W_V` of each are cut to fewer dimensions, no layer is added.

    Wong et al. 2025, "A3: an Analytical Low-Rank Approximation Framework for Attention", arXiv 2505.12942: scores and
    outputs of attention are what is to stay, not queries, keys and values. Here both count by what the loss sees of
    them, so that one width can be chosen for both; see `heads.cut_by_data`. All heads of a layer get the same width.

    Args:
        model: The model; changed in place.
        config: Which layers, the width of their heads, and on how many rows.
        context: Gives the calibration rows; their labels are not used.

    Raises:
        RequestError: The filters match no whole attention, or the budget cannot be met.
        DataError: There are too few rows.
        ModelError: Weights, activations or gradients are NaN or infinite, or something stands between the heads'
            linear layers and their products, such as rotary positions.
    """
    attentions, weights, cuts, widths = _look(model, config, context)
    narrow = {
        one.group: cuts[one.group].narrow(weights[one.group], widths[one.group], scales_scores(one.module))
        for one in attentions
        if one.group in widths
    }
    with comparing(model, context):
        return put_heads(model, narrow)


def _look(
    model: PreTrainedModel, config: HeadSizeConfig, context: Context
) -> tuple[list[Attention], dict[str, Heads], dict[str, HeadCuts], dict[str, int]]:
    """Return the attentions, and by group their weights, what they lose at each width, and the width if it changes."""
    attentions = config.attentions(model)
    weights = {one.group: read_heads(model, one) for one in attentions}
    cuts = _cuts(model, attentions, weights, config, context)
    return attentions, weights, cuts, _widths(model, attentions, cuts, config, context)


def _cuts(
    model: PreTrainedModel,
    attentions: Sequence[Attention],
    weights: Mapping[str, Heads],
    config: HeadSizeConfig,
    context: Context,
) -> dict[str, HeadCuts]:
    """Return what each attention loses at each width, by group."""
    if not config.data:
        return {one.group: cut_by_weights(weights[one.group], one.heads) for one in attentions}
    ends = {one.group: (one.layers[0], one.layers[-1]) for one in attentions}
    names = [name for pair in ends.values() for name in pair]
    with evaluating(model):
        batches = calibration_inputs(model, context, config.examples, config.batch_size)
        known = measure_sensitivity(model, names, batches, context.task, _FOCUS, context.seed, context.progress)
    return {
        one.group: cut_by_data(weights[one.group], one.heads, *(known[name] for name in ends[one.group]))
        for one in attentions
    }


def _widths(
    model: PreTrainedModel,
    attentions: Sequence[Attention],
    cuts: Mapping[str, HeadCuts],
    config: HeadSizeConfig,
    context: Context,
) -> dict[str, int]:
    """Return the width of the heads of each attention that gains by it; the others are left out, and told.

    Raises:
        RequestError: The budget is below that of the smallest widths.
    """
    known = {one.group: _ranked(model, one, cuts[one.group], config) for one in attentions}
    if config.rank_ratio is None:
        widths = choose_ranks(known, config)
    else:
        widths = {}
        for one in attentions:
            wanted = int(config.rank_ratio * one.width) // config.multiple * config.multiple
            own = replace(config, rank=max(config.multiple, wanted), rank_ratio=None)
            widths |= choose_ranks({one.group: known[one.group]}, own)
    _note(model, attentions, known, widths, config, context)
    kept = [group for group, width in widths.items() if width is None]
    if kept:
        context.say(f"heads stay as wide as they are, since they would not gain: {brief_names(kept)}")
    return {group: width for group, width in widths.items() if width is not None}


def _note(
    model: PreTrainedModel,
    attentions: Sequence[Attention],
    known: Mapping[str, Ranked],
    widths: Mapping[str, int | None],
    config: HeadSizeConfig,
    context: Context,
) -> None:
    """Note what each attention keeps, and what the loss is expected to be."""
    found = note_ranks(context, known, widths, config, config.loss)
    note_curves(context, {}, known, config.loss)
    sizes = {one.group: _weights_in(model, one) for one in attentions}
    shares = {one.group: (widths[one.group] or one.width) / one.width for one in attentions}
    found |= {
        "parameters": round(sum(shares[group] * size for group, size in sizes.items())),
        "dense_parameters": sum(sizes.values()),
        "by_ratio": [],  # of a rank's break-even, which heads do not have
    }


def _weights_in(model: PreTrainedModel, attention: Attention) -> int:
    """Return how many weights an attention has, its biases apart."""
    return sum(weight_of(model.get_submodule(name)).numel() for name in attention.layers)


def _ranked(model: PreTrainedModel, attention: Attention, cuts: HeadCuts, config: HeadSizeConfig) -> Ranked:
    """Return what is known of an attention; parameters and work grow with the width of its heads."""
    if config.budget is not None and config.budget[0] == "latency":
        costs = time_widths(*shape_of(model, attention), config.multiple)
    else:
        costs = np.arange(attention.width + 1) * (_weights_in(model, attention) / attention.width)
    return Ranked(attention.width, attention.width, cuts.losses.cpu().numpy(), costs[:-1], float(costs[-1]))


def _nothing(model: PreTrainedModel, attention: Attention, width: int) -> Heads:
    """Return weights of narrower heads without memory for their values."""
    heads = read_heads(model, attention)
    channels = attention.heads * width

    def writer(layer: Affine) -> Affine:
        bias = None if layer.bias is None else layer.bias.new_empty(channels, device="meta")
        return Affine(layer.weight.new_empty(channels, layer.weight.shape[1], device="meta"), bias)

    output = Affine(heads.output.weight.new_empty(len(heads.output.weight), channels, device="meta"), heads.output.bias)
    return Heads(writer(heads.query), writer(heads.key), writer(heads.value), output)


def _check_family(model: PreTrainedModel) -> None:
    """Check that nothing stands between a head's linear layers and its products.

    Raises:
        ModelError: Something does, or nothing is known of the architecture.
    """
    family, instead = model.config.model_type, "Use activation, which factorizes each linear layer by itself."
    if family not in _FAMILIES:
        why = _WHY_NOT.get(family, "it has no attention, or one of which this method knows nothing")
        problem = f"heads of {family} cannot be made narrower: {why}."
        raise ModelError(Fault("method", problem, instead))
    if any(hasattr(one.module, "distance_embedding") for one in attentions_of(model)):
        problem = "scores are also products with positions: its position_embedding_type is not absolute."
        raise ModelError(Fault("method", problem, instead))
