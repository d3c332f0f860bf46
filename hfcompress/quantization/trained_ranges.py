"""Ranges of activations that training found: where they are kept, and which value of a graph each belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from hfcompress.quantization.ranges import Range

_KEY = "activation_ranges"
"""An attribute of the config that transformers keeps and does not look at."""


def write_ranges(config: PretrainedConfig, ranges: Mapping[str, Range]) -> None:
    """Keep in a config, by the name of each layer, the range of what goes into it."""
    setattr(config, _KEY, {name: [low, high] for name, (low, high) in ranges.items()})


def read_ranges(config: PretrainedConfig) -> dict[str, Range]:
    """Return what a config says of ranges; nothing where the model was not trained with rounding."""
    found = getattr(config, _KEY, None)
    if not isinstance(found, Mapping):
        return {}
    return {str(name): (float(low), float(high)) for name, (low, high) in found.items()}


def forget_ranges(config: PretrainedConfig) -> None:
    """Drop them: they are not those of the model any more."""
    if hasattr(config, _KEY):
        delattr(config, _KEY)


def graph_ranges(source: Path, config: PretrainedConfig) -> dict[str, Range]:
    """Return the ranges of a graph's values, by their names there; those that no layer with a range reads have none."""
    from hfcompress.measure.onnx_size import read_weights
    from hfcompress.quantization.observing import products

    known = read_ranges(config)
    modules = {weight.name: weight.module for weight in read_weights(source, known) or ()}
    found: dict[str, Range] = {}
    for item in products(source):
        module = modules.get(item.weight.tensor.name, "")
        if module in known:
            found[item.node.input[0]] = known[module]
    return found


def who_reads(model: PreTrainedModel, names: Iterable[str]) -> dict[str, list[str]]:
    """Return which layers read the same activation, by the first of them; queries, keys and values do.

    The model runs once, on a made-up input.
    """
    import torch

    read: list[tuple[str, Any]] = []
    handles = []
    for name in names:

        def note(module: Any, args: Any, name: str = name) -> None:
            read.append((name, args[0]))  # held, so that no later one gets its address

        handles.append(model.get_submodule(name).register_forward_pre_hook(note))
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval()(**_made_up(model))
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    found: dict[str, list[str]] = {}
    owners: dict[int, str] = {}
    placed: set[str] = set()
    for name, values in read:
        owner = owners.setdefault(id(values), name)
        if name not in placed:
            placed.add(name)
            found.setdefault(owner, []).append(name)
    return found


def _made_up(model: PreTrainedModel) -> dict[str, Any]:
    """Return an input that any model of this kind takes."""
    import torch

    config = model.config
    if model.main_input_name == "pixel_values":
        size = getattr(config, "image_size", None) or 64
        return {"pixel_values": torch.zeros(1, getattr(config, "num_channels", 3), size, size, device=model.device)}
    return {name: value.to(model.device) for name, value in model.dummy_inputs.items()}
