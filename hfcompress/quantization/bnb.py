"""The steps `bnb_int8`, `bnb_nf4` and `bnb_fp4`: linear layers of eight or four bits, by bitsandbytes."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from annotated_types import Interval
from torch import nn
from transformers.pytorch_utils import Conv1D

from hfcompress.config import option
from hfcompress.errors import Fault, RequestError
from hfcompress.modeling.linear import channels_in, channels_out, matrix, weight_of
from hfcompress.modeling.load import load_model
from hfcompress.modeling.packed import INPUTS, OUTPUTS, takes_four_bits
from hfcompress.modeling.structure import relative_name, structure_of, write_structure
from hfcompress.modeling.surgery import put
from hfcompress.modeling.targets import TargetOptions, refuse_nan
from hfcompress.registry import register

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PreTrainedModel

    from hfcompress.context import Context

KINDS = (nn.Linear, Conv1D)
"""The layers that bitsandbytes has a counterpart of."""


@dataclass
class BitsAndBytesOptions(TargetOptions):
    """Which layers get fewer bits; default: the linear ones of the model's layers, neither embeddings nor heads."""

    def check(self) -> None:
        """Look whether bitsandbytes is there.

        Raises:
            RequestError: It is not.
        """
        if importlib.util.find_spec("bitsandbytes") is None:
            fix = "Run: pip install 'hfcompress[bnb]'"
            raise RequestError(Fault("", "needs bitsandbytes, which is not installed.", fix))


@dataclass
class Int8Config(BitsAndBytesOptions):
    """Options of `bnb_int8`."""

    threshold: Annotated[float, Interval(ge=0)] = option(
        6.0, help="channels of the inputs with a larger number are multiplied in float; 0: none"
    )


@dataclass
class FourBitConfig(BitsAndBytesOptions):
    """Options of `bnb_nf4` and `bnb_fp4`."""

    no_double_quantization: bool = option(False, help="leave the scales, one for 64 weights, in float32")
    compute_dtype: Literal["float32", "bfloat16", "float16"] = option(
        "float32", help="type of the numbers in which the layers multiply"
    )


@register("quantization", "bnb_int8", Int8Config)
def bnb_int8(model: PreTrainedModel, config: Int8Config, context: Context) -> PreTrainedModel:
    """Linear layers of eight bits, one scale a row; large inputs are multiplied in float.

    LLM.int8() (Dettmers et al. 2022, https://arxiv.org/abs/2208.07339, section 3): a row `w` becomes
    `round(127 w / max|w|)`, and so does each row of the inputs while the model runs, but for the channels of the inputs
    above the threshold.

    Args:
        model: The model; made anew.
        config: Which layers.
        context: Gets the findings.

    Raises:
        RequestError: The filters match nothing that bitsandbytes can quantize.
        ModelError: Weights are NaN or infinite.
    """
    return _quantize(model, config, context, load_in_8bit=True, llm_int8_threshold=config.threshold)


@register("quantization", "bnb_nf4", FourBitConfig)
def bnb_nf4(model: PreTrainedModel, config: FourBitConfig, context: Context) -> PreTrainedModel:
    """Linear layers of four bits: the 16 values that suit normally distributed weights, one scale for 64.

    NormalFloat of QLoRA (Dettmers et al. 2023, https://arxiv.org/abs/2305.14314, section 3): 64 weights are divided by
    the largest of their absolute values, and each becomes the nearest of the quantiles of `N(0, 1)` scaled to [-1, 1].
    Double quantization then stores the scales in eight bits, 256 of them with a scale of their own.

    Args:
        model: The model; made anew.
        config: Which layers.
        context: Gets the findings.

    Raises:
        RequestError: The filters match nothing that bitsandbytes can quantize.
        ModelError: Weights are NaN or infinite.
    """
    return _quantize(model, config, context, **_four_bits(config, "nf4"))


@register("quantization", "bnb_fp4", FourBitConfig)
def bnb_fp4(model: PreTrainedModel, config: FourBitConfig, context: Context) -> PreTrainedModel:
    """Linear layers of four bits: floats of sign, exponent and fraction, one scale for 64.

    As `bnb_nf4`, but for the 16 values. `bnb_nf4` is nearly always nearer to the weights.

    Args:
        model: The model; made anew.
        config: Which layers.
        context: Gets the findings.

    Raises:
        RequestError: The filters match nothing that bitsandbytes can quantize.
        ModelError: Weights are NaN or infinite.
    """
    return _quantize(model, config, context, **_four_bits(config, "fp4"))


def _four_bits(config: FourBitConfig, kind: str) -> dict[str, Any]:
    return {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": kind,
        "bnb_4bit_use_double_quant": not config.no_double_quantization,
        "bnb_4bit_compute_dtype": config.compute_dtype,
    }


def _quantize(
    model: PreTrainedModel, config: BitsAndBytesOptions, context: Context, **settings: Any
) -> PreTrainedModel:
    """Quantize the chosen layers in place, and return what `from_pretrained` makes of the model when it is saved."""
    from transformers import BitsAndBytesConfig

    chosen = _chosen(model, config)
    if settings.get("load_in_4bit"):
        chosen = _fitting(chosen, context)
    refuse_nan(chosen)
    weights = sum(weight_of(module).numel() for module in chosen.values())
    context.findings["bitsandbytes"] = {
        "bits": 8 if settings.get("load_in_8bit") else 4,
        "layers": len(chosen),
        "share": round(weights / sum(parameter.numel() for parameter in model.parameters()), 4),
        "kept_float": [name for name in _linear(model) if name not in chosen],
    }
    told = BitsAndBytesConfig(llm_int8_skip_modules=_skipped(model, chosen), **settings)
    for name, module in chosen.items():
        put(model, name, _quantized(module, told))
    structure = structure_of(model.config)
    if structure:
        structure.bitsandbytes = told.to_dict()
        write_structure(model.config, structure)
    else:
        model.config.quantization_config = told
    with TemporaryDirectory(dir=context.work_dir) as folder:
        model.save_pretrained(folder)
        return load_model(folder, context.task)


def _chosen(model: PreTrainedModel, config: BitsAndBytesOptions) -> dict[str, nn.Module]:
    """Return the layers that are quantized, by name: not those that transformers keeps in float in this architecture.

    Raises:
        RequestError: None is left.
    """
    held = set(getattr(model, "_keep_in_fp32_modules", None) or ())
    found = {name: one for name, one in config.chosen(model, KINDS).items() if not held & set(name.split("."))}
    if not found:
        problem = f"transformers keeps {', '.join(sorted(held))} of this {model.config.model_type} in float."
        raise RequestError(Fault("modules", problem, "Name other modules."))
    return found


def _fitting(chosen: Mapping[str, nn.Module], context: Context) -> dict[str, nn.Module]:
    """Return the layers that four bits suit on every CPU.

    Raises:
        RequestError: None is left.
    """
    found = {name: module for name, module in chosen.items() if takes_four_bits(module)}
    sizes = f"inputs in multiples of {INPUTS} and outputs in multiples of {OUTPUTS}"
    if not found:
        problem = f"four bits need {sizes}, which none of the {len(chosen)} layers has."
        raise RequestError(Fault("modules", problem, "Name other modules, or use bnb_int8."))
    if len(found) < len(chosen):
        context.say(f"{len(chosen) - len(found)} of {len(chosen)} layers stay float: four bits need {sizes}")
    return found


def _linear(model: PreTrainedModel) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, KINDS)]


def _skipped(model: PreTrainedModel, chosen: Mapping[str, nn.Module]) -> list[str]:
    """Return the linear layers that stay as they are, by their names in this model and in its base model."""
    left = [name for name in _linear(model) if name not in chosen]
    return sorted({*left, *(relative_name(model, name) for name in left)})


@torch.no_grad()
def _quantized(module: nn.Module, told: BitsAndBytesConfig) -> nn.Module:
    """Return the counterpart of a linear layer, as transformers makes it while it loads."""
    import bitsandbytes as bnb

    sizes = (channels_in(module), channels_out(module), module.bias is not None)
    layer: Any
    with torch.device("meta"):
        if told.load_in_8bit:
            layer = bnb.nn.Linear8bitLt(  # type: ignore[attr-defined]
                *sizes, has_fp16_weights=False, threshold=told.llm_int8_threshold
            )
        else:
            layer = bnb.nn.Linear4bit(  # type: ignore[attr-defined]
                *sizes,
                compute_dtype=told.bnb_4bit_compute_dtype,
                compress_statistics=told.bnb_4bit_use_double_quant,
                quant_type=told.bnb_4bit_quant_type,
            )
    known = {name: value for name, value in vars(layer.weight).items() if name != "SCB"}
    values = matrix(module).contiguous()
    layer.weight = type(layer.weight)(values, requires_grad=False, **known).to(values.device)
    layer.bias = module.bias
    quantized: nn.Module = layer
    return quantized
