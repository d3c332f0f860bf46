"""Padding for batches that one model reads, or two with tokenizers of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers.data.data_collator import pad_without_fast_tokenizer_warning as pad

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class PairedCollator:
    """Pads a batch with the student's tokenizer, and the teacher's columns with the teacher's.

    Args:
        tokenizer: The student's.
        teacher_tokenizer: The teacher's, when it differs.
        prefix: What the teacher's columns start with.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        teacher_tokenizer: PreTrainedTokenizerBase | None = None,
        prefix: str = "teacher_",
    ) -> None:
        self.tokenizer = tokenizer
        self.teacher_tokenizer = teacher_tokenizer
        self.prefix = prefix

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return tensors: token columns `(batch, longest)`, labels `(batch,)`."""
        texts = [name for name in rows[0] if name != "labels" and not name.startswith(self.prefix)]
        batch = dict(pad(self.tokenizer, [{name: row[name] for name in texts} for row in rows], return_tensors="pt"))
        if self.teacher_tokenizer is not None:
            own = [name.removeprefix(self.prefix) for name in rows[0] if name.startswith(self.prefix)]
            theirs = [{name: row[self.prefix + name] for name in own} for row in rows]
            padded = pad(self.teacher_tokenizer, theirs, return_tensors="pt")
            batch |= {self.prefix + name: value for name, value in padded.items()}
        if "labels" in rows[0]:
            batch["labels"] = torch.tensor([row["labels"] for row in rows])
        return batch
