"""Zeros: which share of a model's parameters is exactly 0, in all, by component and by layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfcompress.errors import ModelError
from hfcompress.measure.size import by_component, namer
from hfcompress.modeling.families import stacks_of
from hfcompress.modeling.layer_patterns import layer_groups

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

FEW_ZEROS = 0.01
"""Up to this share zeros are not spoken of: every model has some, such as its row for padding."""

NO_GAIN = "zeros alone save neither time nor bytes in PyTorch and ONNX Runtime"

Counts = Mapping[str, tuple[int, int]]
"""Zeros and all numbers of each parameter, by its name."""


def count_zeros(source: Path | PreTrainedModel) -> Counts:
    """Count the zeros of each tensor of numbers, one tensor in memory at a time.

    Args:
        source: A folder with safetensors files, or a model.
    """
    tensors = _stored(source) if isinstance(source, Path) else source.named_parameters()
    return {
        name: (tensor.numel() - int(tensor.count_nonzero()), tensor.numel())
        for name, tensor in tensors
        if tensor.is_floating_point()
    }


def zero_share(counts: Counts) -> float:
    """Return which share of all numbers is 0.

    Args:
        counts: What `count_zeros` returned.
    """
    return _share(counts.values()) or 0.0


def _stored(folder: Path) -> Iterator[tuple[str, Tensor]]:
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():
                yield name, file.get_tensor(name)


def describe_zeros(counts: Counts, model: PreTrainedModel) -> dict[str, Any]:
    """Return the share of zeros.

    Args:
        counts: What `count_zeros` returned.
        model: Its modules; they need no weights.

    Returns:
        `zeros` of all parameters, and `component_zeros` by component.
    """
    buffers = {name for name, _ in model.named_buffers()}
    counts = {name: count for name, count in counts.items() if name not in buffers}
    name_component = namer(model)
    zeros, totals = (by_component({name: count[i] for name, count in counts.items()}, name_component) for i in (0, 1))
    return {
        "zeros": _share(counts.values()),
        "component_zeros": {name: zeros[name] / total for name, total in totals.items() if total},
    }


def zeros_by_layer(counts: Counts, model: PreTrainedModel) -> list[float] | None:
    """Return the share of zeros of each layer, in the order of `layer_structure`; None where there are no layers."""
    try:
        stacks = stacks_of(model)
    except ModelError:
        return None
    names = {id(module): name for name, module in model.named_modules()}
    found = []
    for blocks, layers in stacks:
        for group in layer_groups(model.config) if blocks.shared else range(len(layers)):
            prefix = f"{names[id(layers[group])]}."
            found.append(_share(count for name, count in counts.items() if name.startswith(prefix)) or 0.0)
    return found


def _share(counts: Iterable[tuple[int, int]]) -> float | None:
    zeros, totals = zip(*counts, strict=True) if (counts := list(counts)) else ((0,), (0,))
    return sum(zeros) / sum(totals) if sum(totals) else None
