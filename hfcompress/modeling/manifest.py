"""What tells a structure manifest in a config; nothing here imports torch, so that cards are written quickly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

METHOD = "hfcompress"
"""What `quant_method` says in a manifest."""


def is_manifest(found: Any) -> TypeGuard[Mapping[str, Any]]:
    """Say whether what `config.json` holds as `quantization_config` is a structure manifest.

    Then transformers alone cannot build the model: its layers are not what the config says.
    """
    return isinstance(found, Mapping) and found.get("quant_method") == METHOD
