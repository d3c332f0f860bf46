"""The `svd` step: linear layers cut to their largest singular values, no data needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hfcompress.factorization.decompose import svd as decompose
from hfcompress.factorization.layers import LinearOptions, factorize
from hfcompress.modeling.linear import matrix
from hfcompress.registry import register

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from hfcompress.context import Context


@dataclass
class SvdConfig(LinearOptions):
    """Options of `svd`."""


@register("factorization", "svd", SvdConfig)
def svd(model: PreTrainedModel, config: SvdConfig, context: Context) -> PreTrainedModel:
    """Replace linear layers by two thin ones that are nearest to their weights; knows nothing of the data.

    With `W = U Σ Vᵀ` the rank-`r` matrix nearest to `W` is `U_r Σ_r V_rᵀ` (Eckart and Young 1936). A budget is shared
    out by `‖W − M‖²`. What weights are worth depends on what goes into them: `activation` loses less at every rank.

    Args:
        model: The model; changed in place.
        config: Which layers, and their ranks.
        context: Not used.

    Raises:
        RequestError: The filters match nothing, or the budget cannot be met.
        ModelError: Weights are NaN or infinite.
    """
    layers = config.layers_of(model)
    found = {name: decompose(matrix(module)) for name, module in layers.items()}
    return factorize(model, layers, found, config)
