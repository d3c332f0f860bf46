"""How transformers loads a model whose config carries a structure manifest: through its registry of quantizers."""

from __future__ import annotations

from typing import Any

from transformers.quantizers.auto import (
    AutoHfQuantizer,
    AutoQuantizationConfig,
    register_quantization_config,
    register_quantizer,
)
from transformers.quantizers.base import HfQuantizer

from hfcompress.modeling.embedding_tables import rebuild
from hfcompress.modeling.manifest import METHOD
from hfcompress.modeling.packed import compute_as_stored
from hfcompress.modeling.structure import Structure

register_quantization_config(METHOD)(Structure)


@register_quantizer(METHOD)
class StructureQuantizer(HfQuantizer):
    """Rebuilds the layers before the weights are loaded; nothing is quantized, the model can do all that others can."""

    requires_calibration = False

    def __new__(cls, structure: Structure, **kwargs: Any) -> Any:
        """Return the quantizer of bitsandbytes where that has quantized the layers that are rebuilt."""
        return super().__new__(cls) if structure.bitsandbytes is None else _of_bitsandbytes(structure, **kwargs)

    def _process_model_before_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        rebuild(model)
        return model

    def _process_model_after_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        """Take off what marks a quantized model: those refuse `.half()`, `.float()` and some kinds of training."""
        model.is_quantized = False
        for owner, name in (
            (model, "hf_quantizer"),
            (model, "quantization_method"),
            (model.config, "_pre_quantization_dtype"),
            (model.config, "_is_quantized"),
        ):
            if name in vars(owner):
                delattr(owner, name)
        return model

    def is_serializable(self, safe_serialization: Any = None) -> bool:
        """Say that `save_pretrained` works."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Say that it can be trained."""
        return True

    @property
    def is_qat_trainable(self) -> bool:
        """Say that all its weights can be trained."""
        return True


class _Rebuilding:
    """A base for quantizers of transformers, put before them: rebuilds the layers first, and keeps the manifest."""

    def _process_model_before_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        rebuild(model)
        self.structure = model.config.quantization_config
        super()._process_model_before_weight_loading(model, **kwargs)  # type: ignore[misc]
        model.config.quantization_config = self.structure  # transformers 4 has put its own there
        return model

    def _process_model_after_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        model.config.quantization_config = self.structure  # transformers 5 has put its own there
        compute_as_stored(model)
        return super()._process_model_after_weight_loading(model, **kwargs)  # type: ignore[misc]


def _of_bitsandbytes(structure: Structure, **kwargs: Any) -> HfQuantizer:
    """Return the quantizer that transformers has for the layers, which rebuilds them first."""
    config = AutoQuantizationConfig.from_dict(dict(structure.bitsandbytes or {}))
    kind = type(AutoHfQuantizer.from_config(config, **kwargs))
    quantizer: HfQuantizer = type(f"Rebuilding{kind.__name__}", (_Rebuilding, kind), {})(config, **kwargs)
    return quantizer
