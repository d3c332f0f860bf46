"""The `channel` step: convolutions with fewer outputs, and 1 × 1 behind; 1 × 1 ones as two of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from hfcompress.factorization.convolutions import ConvOptions, factorize_convolutions, predict_convolutions
from hfcompress.factorization.kernels import ThinKernel
from hfcompress.registry import register

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from hfcompress.context import Context


@dataclass
class ChannelConfig(ConvOptions):
    """Options of `channel`."""


def predict_channel(model: PreTrainedModel, config: ChannelConfig, context: Context) -> PretrainedConfig:
    """Return the config of the model that `channel` would make; see `predict_convolutions`."""
    return predict_convolutions(model, config, context, partial(ThinKernel, plain=config.plain))


@register("factorization", "channel", ChannelConfig, predict=predict_channel)
def channel(model: PreTrainedModel, config: ChannelConfig, context: Context) -> PreTrainedModel:
    """Replace convolutions by ones with fewer outputs, and 1 × 1 behind, that change least what comes out.

    A convolution is a matrix `W` on patches `x`, `(outputs, inputs · height · width)`. At each rank `M` minimises
    `E‖√G (W − M)(x − E[x])‖²`, with `G` the second moment of the loss's gradient behind. Without `fisher` `G` is 1:
    Zhang et al. 2016, "Accelerating Very Deep Convolutional Networks for Classification and Detection", arXiv
    1505.06798, section 3.1. `plain`: singular values of `W`, as Denton et al. 2014, "Exploiting Linear Structure Within
    Convolutional Networks for Efficient Evaluation", arXiv 1404.0736.

    Args:
        model: The model; changed in place.
        config: Which convolutions, their ranks, and on how many images.
        context: Gives the calibration rows; their labels are not used.

    Raises:
        RequestError: There are no convolutions, the filters match none, or the budget cannot be met.
        DataError: There are too few rows.
        ModelError: Weights, activations or gradients are NaN or infinite; the layer is named.
    """
    return factorize_convolutions(model, config, context, partial(ThinKernel, plain=config.plain))
