"""`CompressionArguments`: transformers' `TrainingArguments` and what compression adds to them."""

from dataclasses import dataclass, field
from typing import Optional, Union

from transformers import TrainingArguments

from hfcompress.training.objective import DEFAULT_LOSSES, parse_losses, read_losses


# Optional and Union, and no postponed types: HfArgumentParser of transformers 4.57 reads these on Python 3.10 too.
@dataclass
class CompressionArguments(TrainingArguments):
    """`TrainingArguments` with the losses of distillation.

    Args:
        losses: Losses by name with their options, a weight, or JSON of the same:
            `{"kl": {"weight": 0.7, "temperature": 4}, "hidden_mse": 0.1, "task": 0.3}`.
        layer_map: Which layers the losses on hidden states compare: `uniform`, `last`, `skip`, or pairs `1:2,3:6`.
        length_grouping: Batch texts of about the same length, which saves padding; the order is a function of seed and
            epoch, so that a resumed run goes on exactly.

    Raises:
        RequestError: Unknown losses or options, or values out of range; all of them.
    """

    losses: Optional[Union[dict, str]] = field(  # noqa: UP007, UP045
        default=None,
        metadata={
            "help": "losses with weights and options, as JSON or names (default: kl 0.7 at temperature 2, task 0.3)"
        },
    )
    layer_map: str = field(
        default="uniform", metadata={"help": "layers compared: uniform, last, skip, or pairs 1:2,3:6"}
    )
    length_grouping: bool = field(default=False, metadata={"help": "batch texts of about the same length together"})

    def __post_init__(self) -> None:
        """Check the losses at once, before a model is loaded."""
        self.losses = read_losses(self.losses or DEFAULT_LOSSES)
        parse_losses(self.losses)
        super().__post_init__()
