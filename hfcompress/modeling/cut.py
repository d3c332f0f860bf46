"""Students cut out of their teacher: some of its layers, with its weights."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING

from hfcompress.errors import Fault, ModelError, RequestError, unknown
from hfcompress.modeling.families import blocks_of, layers_prefix

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

PREFIX = "cut:"
_KEYS = ("layers",)


def parse_cut(spec: str, depth: int) -> list[int]:
    """Read a cut's description.

    Args:
        spec: `cut:layers=3` (that many, spread evenly, the last kept) or `cut:layers=0,2,5` (these, counted from 0).
        depth: Number of layers of the teacher.

    Returns:
        The teacher's layers to keep, in order.

    Example:
        >>> parse_cut("cut:layers=3", 6)
        [1, 3, 5]

    Raises:
        RequestError: The description cannot be read, or names a layer that does not exist.
    """
    faults, layers = [], None
    for part in filter(None, spec.removeprefix(PREFIX).split(";")):
        key, _, value = part.partition("=")
        if key.strip() not in _KEYS:
            faults.append(unknown("cut", key.strip(), _KEYS, spec))
        elif not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*,?", value):
            faults.append(Fault(spec, f"layers takes a number or a list such as 0,2,5, got {value!r}."))
        elif layers is not None:
            faults.append(Fault(spec, "layers is given twice."))
        else:
            layers = value
    if faults:
        raise RequestError(*faults)
    if layers is None:
        raise RequestError(Fault(spec, "names nothing to cut.", "Write for example cut:layers=3 or cut:layers=0,2,5."))
    numbers = [int(number) for number in layers.split(",") if number.strip()]
    return _check_layers(numbers, depth, spec) if "," in layers else even_layers(numbers[0], depth, spec)


def even_layers(count: int, depth: int, where: str = "cut") -> list[int]:
    """Choose layers spread evenly over a model, the last one among them: layer `(i + 1) * depth / count - 1`.

    Raises:
        RequestError: More layers are asked for than there are, or none.
    """
    if not 1 <= count <= depth:
        raise RequestError(
            Fault(where, f"the teacher has {depth} layers, {count} were asked for.", f"Allowed: 1 to {depth}.")
        )
    return [round((i + 1) * depth / count) - 1 for i in range(count)]


def _check_layers(numbers: list[int], depth: int, spec: str) -> list[int]:
    missing = [str(number) for number in numbers if number >= depth]
    if missing:
        fix = f"Its {depth} layers are counted from 0 to {depth - 1}."
        raise RequestError(Fault(spec, f"the teacher has no layer {', '.join(missing)}.", fix))
    if sorted(set(numbers)) != numbers:
        raise RequestError(Fault(spec, "layers are to be named once each, in ascending order."))
    return numbers


def cut_config(config: PretrainedConfig, layers: list[int]) -> PretrainedConfig:
    """Return a copy of a config for the layers that are kept."""
    small = copy.deepcopy(config)
    setattr(small, blocks_of(config.model_type).depth, len(layers))
    return small


def cut(model: PreTrainedModel, layers: list[int]) -> PreTrainedModel:
    """Build a smaller model out of some of a model's layers.

    Args:
        model: The model to cut; it is left as it is.
        layers: The layers to keep, in order, counted from 0.

    Returns:
        A stock model of the same class and mode (training or evaluation) with copies of the weights.

    Raises:
        ModelError: The architecture has no row in the block table.
    """
    prefix = layers_prefix(model) + "."
    new_place = {old: new for new, old in enumerate(layers)}
    state = {}
    for name, tensor in model.state_dict().items():
        if not name.startswith(prefix):
            state[name] = tensor
            continue
        number, _, rest = name.removeprefix(prefix).partition(".")
        if int(number) in new_place:
            state[f"{prefix}{new_place[int(number)]}.{rest}"] = tensor
    small = type(model)(cut_config(model.config, layers)).to(model.dtype)  # type: ignore[arg-type]
    result = small.load_state_dict(state, strict=False)
    if result.missing_keys or result.unexpected_keys:
        raise ModelError(f"cutting {type(model).__name__} left weights without a place: {result}")
    small.tie_weights()
    return small.to(model.device).train(model.training)
