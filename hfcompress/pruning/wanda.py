"""Wanda: weights that are small, or whose input is, are set to zero; no training, no gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hfcompress.modeling.linear import rows_of
from hfcompress.pruning.statistics import OneShot, prune_on_rows, smallest
from hfcompress.registry import register

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from hfcompress.context import Context
    from hfcompress.modeling.statistics import Moments


@dataclass
class WandaConfig(OneShot):
    """Options of `wanda`."""


@register("pruning", "wanda", WandaConfig)
def wanda(model: PreTrainedModel, config: WandaConfig, context: Context) -> PreTrainedModel:
    """Set weights to zero by their size times that of their input, compared within each output (one-shot).

    Sun et al. 2023, "A Simple and Effective Pruning Approach for Large Language Models", arXiv 2306.11695: a weight's
    score is `|W_ij| · ‖X_j‖₂` (equation 1), where `X_j` is input j of all tokens. What is left stays as it was. The
    zeros alone save neither time nor bytes.

    Args:
        model: The model; changed in place.
        config: What is pruned, and on how many rows.
        context: Gives the calibration rows; their labels are not used.

    Returns:
        The model, with exactly as many zeros in every output's weights.

    Raises:
        RequestError: The filters match nothing, or the pattern does not fit a layer.
        ModelError: Weights or activations are NaN or infinite; the layer is named.
    """

    def prune(module: nn.Module, moments: Moments) -> None:
        rows = rows_of(module)
        scores = rows.abs() * input_norms(moments, rows)
        rows.masked_fill_(weakest(scores, config), 0)

    return prune_on_rows(model, config, context, prune, products=False)


def input_norms(moments: Moments, rows: Tensor) -> Tensor:
    """Return the root mean square of each input `(groups, 1, inputs)`, which ranks as the norm does."""
    return moments.squares.sqrt().to(rows.device).view(rows.shape[0], 1, rows.shape[-1])


def weakest(scores: Tensor, config: OneShot) -> Tensor:
    """Mark the lowest scores `(…, inputs)` within each row, or within every M of them."""
    if config.kept_of is None:
        return smallest(scores, round((config.sparsity or 0) * scores.shape[-1]))
    kept, of = config.kept_of
    return smallest(scores.unflatten(-1, (-1, of)), of - kept).flatten(-2)
