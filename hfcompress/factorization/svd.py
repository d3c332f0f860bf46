"""The `svd` step: linear layers cut to their largest singular values, no data needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hfcompress.factorization.decompose import svd as decompose
from hfcompress.factorization.decompose import svd_losses
from hfcompress.factorization.findings import WEIGHTS
from hfcompress.factorization.layers import LinearOptions, factorize, predict_ranks
from hfcompress.modeling.linear import matrix
from hfcompress.registry import register

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PretrainedConfig, PreTrainedModel

    from hfcompress.context import Context


@dataclass
class SvdConfig(LinearOptions):
    """Options of `svd`."""


def predict_svd(model: PreTrainedModel, config: SvdConfig, context: Context) -> PretrainedConfig:
    """Return the config of the model that `svd` would make; see `predict_ranks`."""
    layers = config.layers_of(model)
    return predict_ranks(model, layers, _losses(layers), config, context, WEIGHTS)


@register("factorization", "svd", SvdConfig, predict=predict_svd)
def svd(model: PreTrainedModel, config: SvdConfig, context: Context) -> PreTrainedModel:
    """Replace linear layers by two thin ones that are nearest to their weights; knows nothing of the data.

    With `W = U Σ Vᵀ` the rank-`r` matrix nearest to `W` is `U_r Σ_r V_rᵀ` (Eckart and Young 1936). A budget is shared
    out by `‖W − M‖²`. What weights are worth depends on what goes into them: `activation` loses less at every rank.

    Args:
        model: The model; changed in place.
        config: Which layers, and their ranks.
        context: Gets the findings; its rows tell how far the answers move.

    Raises:
        RequestError: The filters match nothing, or the budget cannot be met.
        ModelError: Weights are NaN or infinite.
    """
    layers = config.layers_of(model)
    return factorize(
        model, layers, _losses(layers), lambda name: decompose(matrix(layers[name])), config, context, WEIGHTS
    )


def _losses(layers: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    return {name: svd_losses(matrix(module)) for name, module in layers.items()}
