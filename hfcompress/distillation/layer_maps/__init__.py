"""Layer maps: which of the teacher's hidden states each of the student's is compared with. One file each.

Hidden state 0 is the embeddings, hidden state i the output of layer i, as in transformers.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import index
from typing import Any

from hfcompress import registry
from hfcompress.errors import Fault, RequestError
from hfcompress.training.objective import LayerMap


@dataclass
class LayerMapConfig:
    """Layer maps have no options."""


def map_layers(layer_map: LayerMap, student_layers: int, teacher_layers: int) -> list[tuple[int, int]]:
    """Pair the student's hidden states with the teacher's.

    Args:
        layer_map: `uniform`, `last`, `skip`, or explicit pairs `(student, teacher)`, as a list or as text `1:2,3:6`.
        student_layers: Number of layers of the student.
        teacher_layers: Number of layers of the teacher.

    Example:
        >>> map_layers("uniform", 3, 6)
        [(0, 0), (1, 2), (2, 4), (3, 6)]

    Raises:
        RequestError: There is no such map, or a pair names a hidden state that does not exist.
    """
    check_name(layer_map)
    if isinstance(layer_map, str) and ":" not in layer_map:
        return registry.find("layer_map", layer_map, "layer_map").target(student_layers, teacher_layers)
    pairs = _read_pairs(layer_map)
    faults = [
        Fault("layer_map", f"the {who} has no hidden state {number}.", f"Allowed: 0 (embeddings) to {most}.")
        for pair in pairs
        for who, number, most in zip(("student", "teacher"), pair, (student_layers, teacher_layers), strict=True)
        if not 0 <= number <= most
    ]
    if faults:
        raise RequestError(*faults)
    return pairs


def check_name(layer_map: LayerMap) -> None:
    """Check a layer map as far as that goes without the two models.

    Raises:
        RequestError: There is no such map, or the pairs cannot be read.
    """
    if isinstance(layer_map, str) and ":" not in layer_map:
        registry.find("layer_map", layer_map, "layer_map")
    else:
        _read_pairs(layer_map)


def _read_pairs(layer_map: LayerMap) -> list[tuple[int, int]]:
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
