"""Size: parameters, bytes and multiply-accumulates, by component, without loading weights."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfcompress.errors import ModelError
from hfcompress.modeling.building import build_model
from hfcompress.modeling.families import component_of, layers_prefix
from hfcompress.tasks import Task

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class Size:
    """What a model weighs.

    Args:
        parameters: Their number; tied weights count once.
        components: Number of parameters by component.
        macs: Multiply-accumulates of one text of `length` tokens (encoder and decoder as many each), or of one image.
        length: Tokens that the MACs are counted for, or the width of the image in pixels.
    """

    parameters: int
    components: dict[str, int]
    macs: int
    length: int

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def empty_model(config: PretrainedConfig, task: Task) -> PreTrainedModel:
    """Build a model's modules without memory for its weights (on torch's meta device)."""
    import torch

    with torch.device("meta"):
        return _build_model(config, task)


def _build_model(config: PretrainedConfig, task: Task) -> PreTrainedModel:
    import transformers

    # Eager attention: the other kinds look into the mask, and multiply where nobody can count.
    model = build_model(getattr(transformers, task.auto_model), config, attn_implementation="eager")
    return model.eval().requires_grad_(False)


def measure_size(config: PretrainedConfig, task: Task, length: int = 128) -> Size:
    """Count parameters and MACs from a config alone.

    Args:
        config: The model's; it stays as it is.
        task: Decides the head, and what the model reads.
        length: Tokens to count for, cut to what the model takes; images have the model's size.

    An architecture without a row in the block table is divided by its own module names.
    """
    model = empty_model(copy.deepcopy(config), task)
    components = by_component({name: tensor.numel() for name, tensor in model.named_parameters()}, namer(model))
    macs, length = _macs(model.config, task, length)
    return Size(sum(components.values()), components, macs, length)


def namer(model: PreTrainedModel) -> Callable[[str], str]:
    """Return what names the component of a parameter, such as `attention`, by the parameter's name."""
    try:
        prefix = layers_prefix(model)
    except ModelError:
        return lambda name: ".".join(name.split(".")[:2])
    return lambda name: component_of(name, model.config.model_type, prefix)


def by_component(amounts: Mapping[str, int], name_component: Callable[[str], str]) -> dict[str, int]:
    """Add up amounts, given by parameter, by component."""
    found: dict[str, int] = {}
    for name, amount in amounts.items():
        component = name_component(name)
        found[component] = found.get(component, 0) + amount
    return found


def _macs(config: PretrainedConfig, task: Task, length: int) -> tuple[int, int]:
    """Count multiply-accumulates without memory for the weights where that can be; return also for what length.

    An architecture that looks at values, which fake tensors do not have, is built with random weights.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    try:
        with FakeTensorMode():
            return _count(_build_model(config, task), task, length)
    except RuntimeError:
        return _count(_build_model(config, task), task, length)


def _count(model: PreTrainedModel, task: Task, length: int) -> tuple[int, int]:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    inputs = task.example_inputs(model.config, 1, length)
    inputs.pop("attention_mask", None)  # all ones; some models would look whether it is
    with torch.no_grad(), _without_pad_token(model), FlopCounterMode(display=False) as counter:
        model(**inputs)
    return counter.get_total_flops() // 2, inputs[model.main_input_name].shape[-1]


@contextmanager
def _without_pad_token(model: PreTrainedModel) -> Iterator[None]:
    """Keep transformers from looking for padding in tokens that have no values."""
    before = getattr(model.config, "pad_token_id", None)
    if not getattr(model.config, "is_encoder_decoder", False):  # those begin to decode with it
        model.config.pad_token_id = None
    try:
        yield
    finally:
        model.config.pad_token_id = before


def weight_bytes(folder: Path) -> int:
    """Return the bytes of a folder's safetensors files."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def tensor_bytes(folder: Path) -> dict[str, int]:
    """Return the bytes of each tensor in a folder's safetensors files, read from their headers."""
    found = {}
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        for name, entry in header.items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                found[name] = end - begin
    return found
