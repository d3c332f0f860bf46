"""The uniform layer map: the student's layers spread evenly over the teacher's."""

from __future__ import annotations

from hfcompress.distillation.layer_maps import LayerMapConfig
from hfcompress.registry import register


@register("layer_map", "uniform", LayerMapConfig)
def uniform(student_layers: int, teacher_layers: int) -> list[tuple[int, int]]:
    """Spread evenly: embeddings with embeddings, layer m with layer `m · N / M`, rounded, the last with the last.

    Source: Jiao et al., *TinyBERT*, 2020, section 4.1, https://arxiv.org/abs/1909.10351.
    """
    return [(m, round(m * teacher_layers / student_layers)) for m in range(student_layers + 1)]
