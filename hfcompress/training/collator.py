"""Padding for batches that one model reads, or two with tokenizers of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from hfcompress.data import TEACHER_PREFIX
from hfcompress.training.teacher import CACHE_COLUMN

if TYPE_CHECKING:
    from hfcompress.tasks.base import Collator, Task


class PairedCollator:
    """Pads the student's columns with its processor, and the teacher's with the teacher's.

    Args:
        task: Knows how a batch is padded.
        processor: The student's tokenizer or image processor.
        teacher_processor: The teacher's, when it reads other tokens; its columns start with `teacher_`.
    """

    def __init__(self, task: Task, processor: Any, teacher_processor: Any = None) -> None:
        self.collate: Collator = task.collator(processor)
        self.teacher_collate: Collator | None = task.collator(teacher_processor) if teacher_processor else None

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return one batch of tensors."""
        own = [name for name in rows[0] if not name.startswith(TEACHER_PREFIX) and name != CACHE_COLUMN]
        batch = self.collate([{name: row[name] for name in own} for row in rows])
        theirs = [name for name in rows[0] if name.startswith(TEACHER_PREFIX)]
        if self.teacher_collate is not None and theirs:
            padded = self.teacher_collate(
                [{name.removeprefix(TEACHER_PREFIX): row[name] for name in theirs} for row in rows]
            )
            batch |= {TEACHER_PREFIX + name: value for name, value in padded.items()}
        if CACHE_COLUMN in rows[0]:
            batch[CACHE_COLUMN] = torch.tensor([row[CACHE_COLUMN] for row in rows])
        return batch
