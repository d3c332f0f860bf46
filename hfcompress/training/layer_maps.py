"""What a layer map may be told as, before the models are known: a name, or pairs of hidden states."""

from __future__ import annotations

from operator import index
from typing import Any, TypeGuard

from hfcompress import registry
from hfcompress.errors import Fault, RequestError
from hfcompress.training.objective import LayerMap


def check_layer_map(layer_map: LayerMap) -> None:
    """Check a layer map as far as that goes without the two models.

    Raises:
        RequestError: There is no such map, or the pairs cannot be read.
    """
    if is_name(layer_map):
        registry.find("layer_map", layer_map, "layer_map")
    else:
        read_pairs(layer_map)


def is_name(layer_map: LayerMap) -> TypeGuard[str]:
    """Say whether a layer map is told by its name."""
    return isinstance(layer_map, str) and ":" not in layer_map


def read_pairs(layer_map: LayerMap) -> list[tuple[int, int]]:
    """Read the pairs `(student, teacher)` of a layer map, which are a list or text such as `1:2,3:6`.

    Raises:
        RequestError: They cannot be read.
    """
    raw: Any = layer_map
    try:
        if isinstance(layer_map, str):
            raw = [map(int, part.split(":")) for part in layer_map.split(",")]
        pairs = [(index(student), index(teacher)) for student, teacher in raw]
    except (TypeError, ValueError):
        pairs = []
    if not pairs:
        problem = f"takes a name or pairs such as 1:2,3:6, got {layer_map!r}."
        raise RequestError(Fault("layer_map", problem, f"Names: {', '.join(registry.methods('layer_map'))}."))
    return pairs
