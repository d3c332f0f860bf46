"""Descriptions of cuts (`cut:layers=3`), read for a teacher: which of its layers the student keeps."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from hfcompress.errors import Fault, RequestError, unknown
from hfcompress.modeling.layer_patterns import even_layers, fitting_layers, stack_depths

if TYPE_CHECKING:
    from transformers import PretrainedConfig

PREFIX = "cut:"
_BOTH = "layers"
_STACKS = ("encoder", "decoder")


def parse_cut(spec: str, depth: int) -> list[int]:
    """Read a cut of one stack of layers.

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
    return _numbers(_read(spec, (_BOTH,))[_BOTH], depth, spec, partial(even_layers, depth=depth, where=spec))


def parse_cut_of(spec: str, config: PretrainedConfig) -> tuple[list[int], ...]:
    """Read a cut of a teacher: what to pass to `cut` and `cut_config` after the model or config.

    Args:
        spec: As for `parse_cut`. Of an encoder and a decoder, `layers` means both; `cut:encoder=6;decoder=2` each; a
            stack that is not named is kept whole.
        config: The teacher's config.

    Raises:
        RequestError: The description cannot be read, or names a layer that does not exist.
        ModelError: The teacher's layers cannot be left out, or have no row in the block table.
    """
    depths = stack_depths(config)
    values = _read(spec, (_BOTH, *_STACKS) if len(depths) > 1 else (_BOTH,))
    if len(values) > 1 and _BOTH in values:
        raise RequestError(Fault(spec, "layers means both stacks.", "Give either layers, or encoder and decoder."))
    return tuple(
        _numbers(values[key], depth, spec, partial(fitting_layers, config=config, depth=depth, where=spec))
        if (key := _BOTH if _BOTH in values else stack) in values
        else list(range(depth))
        for stack, depth in zip(_STACKS, depths, strict=False)
    )


def _read(spec: str, keys: tuple[str, ...]) -> dict[str, str]:
    """Split a description into its keys and values; there is at least one."""
    faults, values = [], {}
    for part in filter(None, spec.removeprefix(PREFIX).split(";")):
        key, _, value = part.partition("=")
        key = key.strip()
        if key not in keys:
            faults.append(unknown("cut", key, keys, spec))
        elif not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*,?", value):
            faults.append(Fault(spec, f"{key} takes a number or a list such as 0,2,5, got {value!r}."))
        elif key in values:
            faults.append(Fault(spec, f"{key} is given twice."))
        else:
            values[key] = value
    if faults:
        raise RequestError(*faults)
    if not values:
        raise RequestError(Fault(spec, "names nothing to cut.", "Write for example cut:layers=3 or cut:layers=0,2,5."))
    return values


def _numbers(value: str, depth: int, spec: str, spread: Callable[[int], list[int]]) -> list[int]:
    """Read a list of layers, or spread a number of them."""
    numbers = [int(number) for number in value.split(",") if number.strip()]
    if "," not in value:
        return spread(numbers[0])
    missing = [str(number) for number in numbers if number >= depth]
    if missing:
        fix = f"Its {depth} layers are counted from 0 to {depth - 1}."
        raise RequestError(Fault(spec, f"the teacher has no layer {', '.join(missing)}.", fix))
    if sorted(set(numbers)) != numbers:
        raise RequestError(Fault(spec, "layers are to be named once each, in ascending order."))
    return numbers
