"""LoRA by `peft`: what a step learns beside frozen weights, merged afterwards, so that the model keeps its layers."""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Gt, Interval
from pydantic import BeforeValidator

from hfcompress.config import checked_by, option
from hfcompress.errors import Fault, RequestError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


@dataclass
class LoraOptions:
    """How large the adapters are, and where they stand."""

    rank: Annotated[int, Gt(0)] = option(8, help="rank of the adapters")
    alpha: Annotated[float, Interval(gt=0)] | None = option(
        None, help="the adapters count alpha / rank (default: the rank)"
    )
    dropout: Annotated[float, Interval(ge=0, lt=1)] = option(0.0, help="share of an adapter's inputs that is dropped")
    modules: list[str] | None = option(
        None,
        help="patterns of names of the modules that get one, such as *.fc1 (default: the factors of low-rank layers; "
        "in a model without any, the linear layers and convolutions of its layers)",
    )


def _read(value: Any) -> Any:
    """Read JSON, as the command line gives it; what is read already stays.

    Raises:
        RequestError: It is not JSON.
    """
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise RequestError(Fault("lora", f"is not valid JSON: {error}.", 'Write for example {"rank": 8}.')) from None


def _require_peft(_: LoraOptions) -> None:
    """Check that `peft` is there.

    Raises:
        RequestError: It is not.
    """
    if importlib.util.find_spec("peft") is None:
        raise RequestError(Fault("lora", "needs peft, which is not installed.", "Run: pip install 'hfcompress[peft]'"))


Lora = Annotated[LoraOptions | None, BeforeValidator(_read), checked_by(_require_peft)]
"""The type of the option of a step that trains."""

LORA_HELP = (
    'train LoRA adapters and the head alone, and merge them afterwards: {"rank": 8}; it wants a learning_rate about '
    "ten times as high, such as 5e-4"
)
"""What the option is for."""


@contextmanager
def adapted(model: PreTrainedModel, options: LoraOptions, seed: int) -> Iterator[None]:
    """Let adapters and head alone be trained; behind this, adapters are merged and all is as it was but the weights.

    A layer with weight `W` computes `W x + alpha / rank · B A x` meanwhile, where `B` is zero at first (Hu et al. 2021,
    https://arxiv.org/abs/2106.09685, equation 3); then its weight is `W + alpha / rank · B A`. The head is trained
    whole, as `peft` does with classifiers, but for that of a language model, which stays as it is.

    Where bitsandbytes has quantized the layers this is QLoRA (Dettmers et al. 2023, https://arxiv.org/abs/2305.14314,
    equation 5); merging then quantizes the sum again, which loses a part of what was learned.

    Args:
        model: Changed in place.
        options: The adapters.
        seed: Decides what `A` is at first.

    Raises:
        RequestError: `peft` is not installed, or `modules` matches nothing that can have an adapter.
        ModelError: The architecture has no row in the block table, and `modules` is not given.
    """
    _require_peft(options)
    quantized: Any = model if getattr(model, "is_quantized", False) else None
    trainable = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    _add_adapters(model, options, seed)
    if quantized is not None:
        quantized.is_quantized = False  # the Trainer knows adapters by another class, and refuses what has none
    try:
        yield
    finally:
        if quantized is not None:
            quantized.is_quantized = True
        _merge_adapters(model)
        for parameter, flag in trainable:
            parameter.requires_grad_(flag)


def _add_adapters(model: PreTrainedModel, options: LoraOptions, seed: int) -> None:
    """Put adapters into a model, and freeze all else but its head."""
    import torch
    from peft import LoraConfig, inject_adapter_in_model

    head = [parameter for parameter in _head_of(model) if parameter.requires_grad]
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha or options.rank,  # type: ignore[arg-type]
        lora_dropout=options.dropout,
        target_modules=list(_layers_of(model, options)),
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fan_in_fan_out")  # peft itself finds out which way a weight lies
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model)
    for module in _adapters_of(model).values():
        for name in ("kernel_size", "stride", "dilation"):  # MobileNet pads by what a convolution says of itself
            if hasattr(module.get_base_layer(), name):
                setattr(module, name, getattr(module.get_base_layer(), name))
    for parameter in head:
        parameter.requires_grad_(True)


def _layers_of(model: PreTrainedModel, options: LoraOptions) -> dict[str, nn.Module]:
    """Return the layers that get an adapter, by name.

    Raises:
        RequestError: `modules` matches nothing that can have one.
        ModelError: The architecture has no row in the block table, and `modules` is not given.
    """
    from hfcompress.modeling.targets import targets_of

    found = _factors_of(model) if options.modules is None else {}
    try:
        found = found or targets_of(model, modules=options.modules, packed=True)
    except RequestError as error:
        raise error.inside("lora") from None
    unfit = {name: why for name in found if (why := _why_not(model, name))}
    if unfit and (options.modules is not None or len(unfit) == len(found)):
        faults = (Fault("lora.modules", f"{name} {why}.", "Name other modules.") for name, why in unfit.items())
        raise RequestError(*faults)
    return {name: module for name, module in found.items() if name not in unfit}


def _why_not(model: PreTrainedModel, name: str) -> str:
    """Say why a layer cannot have an adapter; nothing where it can."""
    from hfcompress.modeling.low_rank_embedding import LowRankEmbedding

    if getattr(model.get_submodule(name), "groups", 1) > 1:
        return "is a convolution of several groups, into which adapters cannot be merged"
    is_of_table = isinstance(model.get_submodule(name.rpartition(".")[0]), LowRankEmbedding)
    return "is a part of the embeddings, whose weights the head uses, too" if is_of_table else ""


def _factors_of(model: PreTrainedModel) -> dict[str, nn.Module]:
    """Return the layers that low-rank layers are made of, by name."""
    from hfcompress.modeling.low_rank import LOW_RANK

    whole = ((name, module) for name, module in model.named_modules() if isinstance(module, LOW_RANK))
    return {f"{name}.{part}": layer for name, module in whole for part, layer in module.named_children()}


def _head_of(model: PreTrainedModel) -> list[nn.Parameter]:
    """Return the parameters outside the base model; none for a language model."""
    if model.get_output_embeddings() is not None:
        return []
    if model.base_model is model:  # so it is with T5 for question answering, which has a head nevertheless
        return list(model.get_submodule("qa_outputs").parameters()) if hasattr(model, "qa_outputs") else []
    base = {id(parameter) for parameter in model.base_model.parameters()}
    return [parameter for parameter in model.parameters() if id(parameter) not in base]


def _adapters_of(model: PreTrainedModel) -> dict[str, Any]:
    """Return the layers with adapters, by name."""
    from peft.tuners.lora import LoraLayer

    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


def _merge_adapters(model: PreTrainedModel) -> None:
    """Add what the adapters learned to the weights, and remove them."""
    from hfcompress.modeling.surgery import put

    for name, module in _adapters_of(model).items():
        module.merge()
        put(model, name, module.get_base_layer())
    del model.peft_config
