"""Building a model from a config, with the layers that the config's structure manifest says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def build_model(auto_class: Any, config: PretrainedConfig, **kwargs: Any) -> PreTrainedModel:
    """Build a model with random weights, as `auto_class.from_config` does; the config's manifest is applied.

    Args:
        auto_class: An auto class of transformers, or a model's own class (without arguments).
        config: The config, with or without a manifest.
        **kwargs: For `from_config`, such as `attn_implementation`.

    Raises:
        ModelError: The manifest is damaged, of a newer hfcompress, or does not fit the architecture.
    """
    from hfcompress.modeling.embedding_tables import rebuild
    from hfcompress.modeling.structure import structure_of

    make = getattr(auto_class, "from_config", auto_class)
    model: PreTrainedModel = make(config, **kwargs)
    if structure_of(config):
        rebuild(model)
    return model
