"""What tells a structure manifest in a config; nothing here imports torch, so that cards are written quickly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

METHOD = "hfcompress"
"""What `quant_method` says in a manifest."""

BITSANDBYTES = "bitsandbytes"
"""What it says where bitsandbytes has quantized the layers."""


def is_manifest(found: Any) -> TypeGuard[Mapping[str, Any]]:
    """Say whether what `config.json` holds as `quantization_config` is a structure manifest.

    Then transformers alone cannot build the model: its layers are not what the config says.
    """
    return isinstance(found, Mapping) and found.get("quant_method") == METHOD


def is_bitsandbytes(found: Any) -> TypeGuard[Mapping[str, Any]]:
    """Say whether a mapping, as `config.json` holds it, tells how bitsandbytes has quantized a model."""
    return isinstance(found, Mapping) and found.get("quant_method") == BITSANDBYTES


def quantized_by(config: Any) -> str | None:
    """Return the library that has quantized a model's weights, by its config; None where they are floats.

    Args:
        config: The model's config; what it holds as `quantization_config` may be read already, or not.
    """
    held = getattr(config, "quantization_config", None)
    if held is None:
        return None
    entries = held if isinstance(held, Mapping) else vars(held)
    method = entries.get("quant_method")
    name = str(getattr(method, "value", method))
    if name == METHOD:
        return BITSANDBYTES if entries.get("bitsandbytes") else None
    return name
