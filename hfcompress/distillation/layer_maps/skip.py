"""The skip layer map: every k-th of the teacher's layers, from the bottom."""

from __future__ import annotations

from hfcompress.distillation.layer_maps import LayerMapConfig
from hfcompress.registry import register


@register("layer_map", "skip", LayerMapConfig)
def skip(student_layers: int, teacher_layers: int) -> list[tuple[int, int]]:
    """Every k-th layer from the bottom: layer m with layer `m · k`.

    k is `N / M` rounded down, at least 1; where N is no multiple of M the teacher's top is left out.

    Source: Sun, Cheng, Gan and Liu, *Patient Knowledge Distillation for BERT*, 2019, section 3.2 (PKD-Skip),
    https://arxiv.org/abs/1908.09355.
    """
    stride = max(1, teacher_layers // student_layers)
    return [(m, m * stride) for m in range(1, min(student_layers, teacher_layers) + 1)]
