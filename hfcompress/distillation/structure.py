"""What losses ask of two models' structure: sizes that their configs must say, and projections between their widths."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from hfcompress import registry
from hfcompress.errors import Fault, RequestError
from hfcompress.modeling.projections import head_size, layer_head_sizes, layer_heads
from hfcompress.modeling.structure import structure_of
from hfcompress.training.objective import DistillationLoss, ModelPair

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def check_sizes(pair: ModelPair, compared: str, *names: str) -> None:
    """Check that both configs say the sizes that a loss needs, each as one number.

    Args:
        pair: Both models' configs.
        compared: What the loss compares, for the message: `hidden states`.
        names: The config's keys, in transformers' standard spelling: `hidden_size`.

    Raises:
        RequestError: A config lacks some of them, as a convolutional network's does.
    """
    faults = []
    for who, config in (("student", pair.student), ("teacher", pair.teacher)):
        missing = [name for name in names if not isinstance(getattr(config, name, None), int)]
        if missing:
            problem = f"losses on {compared} need {' and '.join(missing)}, and the {who}'s config"
            problem += f" ({config.model_type}) gives no such number."
            faults.append(Fault("losses", problem, f"Losses on logits work: {', '.join(_losses_on_logits())}."))
    if faults:
        raise RequestError(*faults)


def heads_in(config: PretrainedConfig, layer: int) -> int:
    """Return the number of attention heads of a layer, counted from 0, which pruning makes unequal."""
    return layer_heads(config)[layer] if structure_of(config) else int(config.num_attention_heads)


def head_size_in(config: PretrainedConfig, layer: int) -> int:
    """Return the width of a layer's attention heads, the layer counted from 0, which factorization makes unequal."""
    return layer_head_sizes(config)[layer] if structure_of(config) else head_size(config)


def place(loss: DistillationLoss, option: str) -> str:
    """Return where a loss's option stands, for faults: `losses.minilm.student_layer`."""
    name = next(name for name, method in registry.methods("loss").items() if method.target is type(loss))
    return f"losses.{name}.{option}"


def projection(student_width: int, teacher_width: int) -> nn.Module:
    """Return a learned map from the student's width to the teacher's, without bias; nothing where they agree."""
    if student_width == teacher_width:
        return nn.Identity()
    return nn.Linear(student_width, teacher_width, bias=False)


def _losses_on_logits() -> list[str]:
    return [name for name, method in registry.methods("loss").items() if getattr(method.target, "unit", "row") == "row"]
