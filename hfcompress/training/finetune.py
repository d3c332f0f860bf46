"""The `finetune` step: ordinary training on the labels, which also makes the teacher that a distillation needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hfcompress.config import option
from hfcompress.context import Context
from hfcompress.registry import register
from hfcompress.training.lora import LORA_HELP, Lora
from hfcompress.training.run import Run, train

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass
class FinetuneConfig:
    """Options of the step; any TrainingArguments field can stand beside them."""

    lora: Lora = option(None, help=LORA_HELP)
    training: dict[str, Any] = option(
        {}, help="TrainingArguments fields, which can also be written without `training:`", recipe_only=True
    )


@register("training", "finetune", FinetuneConfig)
def finetune(model: PreTrainedModel, config: FinetuneConfig, context: Context) -> PreTrainedModel:
    """Fine-tune the model on the labelled data."""
    return train(model, Run("finetune", config.training, lora=config.lora), context)
