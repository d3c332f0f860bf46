"""What losses on hidden states share: which layers are compared, and the projections between their widths."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from hfcompress.distillation.layer_maps import map_layers
from hfcompress.distillation.structure import check_sizes, projection
from hfcompress.modeling.projections import hidden_width
from hfcompress.training.objective import DistillationLoss, ModelPair
from hfcompress.training.signals import Signals, full_precision


class HiddenStateLoss(DistillationLoss):
    """Base of the losses on hidden states.

    Args:
        config: The loss's options.
        pair: Both models' configs and the layer map.

    Raises:
        RequestError: The layer map names a layer that does not exist, or a config does not say the model's sizes.
    """

    unit = "token"
    needs_hidden_states = True

    def __init__(self, config: Any, pair: ModelPair) -> None:
        super().__init__(config, pair)
        check_sizes(pair, "hidden states", "num_hidden_layers", "hidden_size")
        student, teacher = pair.student, pair.teacher
        self.pairs = map_layers(pair.layer_map, student.num_hidden_layers, teacher.num_hidden_layers)
        self.projections = nn.ModuleList(projection(hidden_width(student), hidden_width(teacher)) for _ in self.pairs)

    def mapped(self, student: Signals, teacher: Signals) -> list[tuple[Tensor, Tensor]]:
        """Return the hidden states to compare, the student's projected: each `(tokens, teacher width)`, not halved.

        The student's are cast before the projection, whose weights are float32, and after it, which autocast halves.
        """
        return [
            (
                full_precision(project(full_precision(student.hidden_states[ours]))),
                full_precision(teacher.hidden_states[theirs]),
            )
            for project, (ours, theirs) in zip(self.projections, self.pairs, strict=True)
        ]
