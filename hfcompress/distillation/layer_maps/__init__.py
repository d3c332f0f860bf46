"""Layer maps: which of the teacher's hidden states each of the student's is compared with. One file each.

Hidden state 0 is the embeddings, hidden state i the output of layer i, as in transformers.
"""

from __future__ import annotations

from dataclasses import dataclass

from hfcompress import registry
from hfcompress.errors import Fault, RequestError
from hfcompress.training.layer_maps import is_name, read_pairs
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
    if is_name(layer_map):
        return registry.find("layer_map", layer_map, "layer_map").target(student_layers, teacher_layers)
    pairs = read_pairs(layer_map)
    faults = [
        Fault("layer_map", f"the {who} has no hidden state {number}.", f"Allowed: 0 (embeddings) to {most}.")
        for pair in pairs
        for who, number, most in zip(("student", "teacher"), pair, (student_layers, teacher_layers), strict=True)
        if not 0 <= number <= most
    ]
    if faults:
        raise RequestError(*faults)
    return pairs
