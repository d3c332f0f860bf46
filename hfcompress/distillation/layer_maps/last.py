"""The last layer map: the student's layers learn from the teacher's top."""

from __future__ import annotations

from hfcompress.distillation.layer_maps import LayerMapConfig
from hfcompress.registry import register


@register("layer_map", "last", LayerMapConfig)
def last(student_layers: int, teacher_layers: int) -> list[tuple[int, int]]:
    """The teacher's top: layer m with layer `N − M + m`.

    A student deeper than its teacher leaves its first layers without a partner.

    Source: Sun, Cheng, Gan and Liu, *Patient Knowledge Distillation for BERT*, 2019, section 3.2 (PKD-Last),
    https://arxiv.org/abs/1908.09355.
    """
    depth = min(student_layers, teacher_layers)
    return [(student_layers - i, teacher_layers - i) for i in reversed(range(depth))]
