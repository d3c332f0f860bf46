"""Shapes: known vision architectures with random weights, at a share of their width, to be trained from nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hfcompress.errors import Fault, ModelError, unknown
from hfcompress.modeling.families import layers_of
from hfcompress.modeling.presets import PRESETS

if TYPE_CHECKING:
    from transformers import BaseImageProcessor, PretrainedConfig, PreTrainedModel

SHAPE_SCHEME = "shape:"
_RESNET_50 = {"layer_type": "bottleneck", "hidden_sizes": [256, 512, 1024, 2048], "depths": [3, 4, 6, 3]}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet-18": PRESETS["resnet-18"],
    "resnet-50": ("resnet", _RESNET_50),
    "mobilenet-v1": PRESETS["mobilenet-v1"],
    "mobilenet-v2": PRESETS["mobilenet-v2"],
}
"""Family and sizes by name."""


def is_shape(source: str) -> bool:
    """Say whether a model is to be built from a shape, such as `shape:resnet-50;width=0.125;image_size=32`."""
    return source.startswith(SHAPE_SCHEME)


def shape_config(source: str, **overrides: Any) -> PretrainedConfig:
    """Return a shape's config.

    Args:
        source: `shape:NAME`, then `;width=` (the share of each layer's channels that is kept, 1 unless given) and
            `;image_size=` (224 unless given).
        **overrides: Config values such as `num_labels`.

    Raises:
        ModelError: There is no such shape or option, or a number is out of range; every such fault.
    """
    from transformers import AutoConfig

    name, *options = source.removeprefix(SHAPE_SCHEME).split(";")
    faults = [] if name in SHAPES else [unknown("shape", name, SHAPES, source)]
    values: dict[str, float] = {"width": 1.0, "image_size": 224}
    for option in options:
        key, _, text = option.partition("=")
        if key not in values:
            faults.append(unknown("option", key, values, source))
            continue
        values[key] = _number(text)
        if not (0 < values[key] <= 1 if key == "width" else values[key] >= 8 and values[key] == int(values[key])):
            allowed = "above 0 and at most 1" if key == "width" else "a whole number of pixels, at least 8"
            faults.append(Fault(source, f"{key} is {text!r}.", f"Allowed: {allowed}."))
    if faults:
        raise ModelError(*faults)
    family, sizes = SHAPES[name]
    sizes = {**sizes, **_narrow(family, sizes, values["width"]), "image_size": int(values["image_size"])}
    return AutoConfig.for_model(family, **{**sizes, **overrides})


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _narrow(family: str, sizes: dict[str, Any], width: float) -> dict[str, Any]:
    """Return the sizes that a share of the width changes; a layer keeps 4 channels, of which a bottleneck takes 1."""
    if family != "resnet":
        return {"depth_multiplier": width}  # MobileNets name it so themselves
    channels = [max(4, round(count * width)) for count in sizes["hidden_sizes"]]
    return {"hidden_sizes": channels, "embedding_size": max(4, round(64 * width))}


def start_residuals_at_identity(model: PreTrainedModel) -> None:
    """Let each residual block of a ResNet start as the identity, in place: deep ones learn much sooner.

    The last normalization of a block starts with the weight 0 (Goyal et al. 2017, "Accurate, Large Minibatch SGD",
    section 5.1).
    """
    from torch import nn

    for stage in layers_of(model) if model.config.model_type == "resnet" else ():
        for block in stage.get_submodule("layers").children():
            *_, last = (
                module for module in block.get_submodule("layer").modules() if isinstance(module, nn.BatchNorm2d)
            )
            nn.init.zeros_(last.weight)


def shape_processor(source: str) -> BaseImageProcessor:
    """Return the image processor of a shape: resized to its size, pixels from -1 to 1."""
    import transformers

    size = shape_config(source).image_size
    # transformers 5 calls the one that works without torchvision by a name of its own.
    kind = getattr(transformers, "ViTImageProcessorPil", None) or transformers.ViTImageProcessor
    settings: dict[str, Any] = {"size": {"height": size, "width": size}, "resample": 2}
    return kind(**settings, image_mean=[0.5, 0.5, 0.5], image_std=[0.5, 0.5, 0.5])
