"""Presets: well-known small architectures by name, to be built for a teacher's vocabulary, images and labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hfcompress.sources import is_local

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def _bert(layers: int, width: int, heads: int, ffn: int) -> tuple[str, dict[str, Any]]:
    sizes = {"num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads, "intermediate_size": ffn}
    return "bert", sizes


PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert-tiny": _bert(layers=2, width=128, heads=2, ffn=512),
    "bert-mini": _bert(layers=4, width=256, heads=4, ffn=1024),
    "bert-small": _bert(layers=4, width=512, heads=8, ffn=2048),
    "bert-medium": _bert(layers=8, width=512, heads=8, ffn=2048),
    "tinybert": _bert(layers=4, width=312, heads=12, ffn=1200),
    "minilm-l6-h384": _bert(layers=6, width=384, heads=12, ffn=1536),
    # transformers' own defaults are the sizes of these models, but for MobileBERT's pooler.
    "distilbert": ("distilbert", {}),
    "mobilebert": ("mobilebert", {"classifier_activation": False}),
    "squeezebert": ("squeezebert", {}),
    "resnet-18": ("resnet", {"layer_type": "basic", "hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2]}),
    "mobilenet-v1": ("mobilenet_v1", {}),
    "mobilenet-v2": ("mobilenet_v2", {}),
}
"""Family and sizes by name; each is also a short name of a pretrained checkpoint."""

_FROM_TEACHER = (
    *("vocab_size", "type_vocab_size"),
    *("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "decoder_start_token_id"),
    *("image_size", "num_channels"),
)
_COUNT_POSITIONS_AFTER_PADDING = ("roberta", "xlm-roberta", "mpnet")


def is_preset(spec: str) -> bool:
    """Say whether a student is a preset; a folder of that name is meant first."""
    return spec in PRESETS and not is_local(spec)


def preset_config(name: str) -> PretrainedConfig:
    """Return a preset's config."""
    from transformers import AutoConfig

    family, sizes = PRESETS[name]
    return AutoConfig.for_model(family, **sizes)


def reads_images(config: PretrainedConfig) -> bool:
    """Say whether a model takes images; otherwise it takes tokens."""
    return hasattr(config, "num_channels")


def fit_to_teacher(config: PretrainedConfig, teacher: PretrainedConfig) -> None:
    """Give a config the teacher's vocabulary, special tokens, segments and positions, or its images; in place.

    What the teacher does not say stays as it is.
    """
    for name in _FROM_TEACHER:
        value = getattr(teacher, name, None)
        # DeBERTa's zero kinds of segments would leave BERT, which always adds one, without any.
        if hasattr(config, name) and value is not None and (name, value) != ("type_vocab_size", 0):
            setattr(config, name, value)
    if reads_images(config) and hasattr(teacher, "image_size"):
        config.image_size = teacher.image_size  # ResNet's config has no such field; it is measured at this size
    positions = getattr(teacher, "max_position_embeddings", None)
    if hasattr(config, "max_position_embeddings") and positions:
        config.max_position_embeddings = positions - first_position(teacher) + first_position(config)


def first_position(config: PretrainedConfig) -> int:
    """Return the number of positions that stand unused before that of the first token."""
    return (config.pad_token_id or 0) + 1 if config.model_type in _COUNT_POSITIONS_AFTER_PADDING else 0
