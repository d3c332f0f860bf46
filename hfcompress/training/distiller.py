"""A teacher at work: what each batch holds, what both models say of it, and what that costs the student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import TrainerCallback, TrainerState, TrainingArguments

from hfcompress.data import TEACHER_PREFIX
from hfcompress.tasks.base import IGNORED, Task
from hfcompress.training.answers import Answer, Listener
from hfcompress.training.learned import average_gradients, share_start
from hfcompress.training.objective import Objective
from hfcompress.training.signals import Counts, full_precision
from hfcompress.training.teacher import CACHE_COLUMN, ROW_MASK, Teacher


class Distiller:
    """Turns two models' answers to a batch into the loss that the student is trained on.

    Args:
        teacher: A checked teacher.
        objective: The weighted losses.
        task: Says what of a batch is compared.
        student: Listens to the student.
    """

    def __init__(self, teacher: Teacher, objective: Objective, task: Task, student: Listener) -> None:
        self.teacher = teacher
        self.objective = objective
        self.task = task
        self.student = student
        self.label_smoothing = 0.0
        self.modules = objective.modules()
        self._total: Counts
        self._sums: dict[str, Tensor] = {}
        self._steps = 0

    def teacher_columns(self) -> list[str]:
        """Return the columns of the data that are read beside the student's."""
        prefix = "" if self.teacher.shares_tokens else TEACHER_PREFIX
        return [*(prefix + name for name in sorted(self.teacher.columns)), CACHE_COLUMN, ROW_MASK]

    def count(self, batches: Sequence[Mapping[str, Any]], accelerator: Accelerator) -> None:
        """Note what the batches of one optimizer step hold, over all processes: the losses are divided by it."""
        counts = torch.stack([torch.stack(self._count(batch)) for batch in batches]).sum(0).to(accelerator.device)
        self._total = Counts(*accelerator.reduce(counts, "sum"))
        self._steps += 1

    def labels_in(self, batch: Mapping[str, Any]) -> Tensor:
        """Return how many labels a micro-batch holds, a scalar."""
        return self.task.count_labels(batch)

    def _count(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Count the rows of logits, the tokens, the texts and the labels of one batch, on its device."""
        first = next(iter(batch.values()))
        texts = torch.tensor(len(first), device=first.device)
        mask = batch.get("attention_mask", batch.get("input_ids"))
        tokens = texts if mask is None else mask.sum() if "attention_mask" in batch else texts * mask.shape[1]
        return self.task.count_rows(batch), tokens, texts, self.labels_in(batch)

    def loss(self, batch: Mapping[str, Any], student: Answer, teacher: Answer, task_mean: Tensor | None) -> Tensor:
        """Return a micro-batch's share of the whole batch's loss.

        Args:
            batch: The micro-batch.
            student: The student's answer.
            teacher: The teacher's.
            task_mean: The student's own mean loss on its labels; None when there is no task loss, or when it is taken
                from the logits, part by part.
        """
        total = self._total
        if "input_ids" not in batch:  # an image has as many tokens as the model makes of it
            total = replace(total, token=total.text * student.length)
        shares = self.objective.other_shares(student.signals, teacher.signals, total)
        if student.rows is not None:
            shares |= self._row_shares(student, teacher, total)
        if task_mean is not None:
            value = self.objective.task(task_mean, self.labels_in(batch))
            shares["task"] = self.objective.task_share(value, total)
        for name, share in shares.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(share)) + share.detach()
        return torch.stack(list(shares.values())).sum()

    def _row_shares(self, student: Answer, teacher: Answer, total: Counts) -> dict[str, Tensor]:
        """Return what the logits add to the losses; in parts, computed again for the gradient, where they are large."""
        names = list(self.objective.row_terms)
        deferred = self.student.head
        if deferred is not None and self.objective.task is not None:
            names.append("task")
        if not names:
            return {}

        def shares_of(values: Tensor, part: slice) -> Tensor:
            ours, theirs = teacher.rows.beside(replace(student.rows, values=values).part(part), part)
            shares = self.objective.row_shares(ours, theirs, total)
            if "task" in names:
                shares["task"] = self._task_share(replace(student.rows, values=values), part, total)
            return torch.stack([shares[name] for name in names])

        values = student.rows.values
        if not len(values):
            return dict.fromkeys(names, values.sum() * 0)
        if deferred is None:
            found = shares_of(values, slice(None))
        else:
            parts = deferred.in_chunks(len(values))
            if len(parts) == 1:
                found = shares_of(values, parts[0])
            else:
                found = sum(checkpoint(shares_of, values, part, use_reentrant=False) for part in parts)
        return dict(zip(names, found, strict=True))

    def _task_share(self, rows: Any, part: slice, total: Counts) -> Tensor:
        own = rows.part(part)
        value = cross_entropy(
            full_precision(own.logits),
            own.labels,
            ignore_index=IGNORED,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
        return self.objective.task_share(value, total)

    def forget(self) -> None:
        """Drop what was gathered for the log."""
        self._sums, self._steps = {}, 0

    def averages(self, accelerator: Accelerator) -> dict[str, float]:
        """Return each loss's share of the loss, averaged over the steps since the last call, and start anew."""
        names = [*self.objective.terms, *(["task"] if self.objective.task is not None else [])]
        if not self._sums and accelerator.num_processes == 1:
            return {}
        zero = torch.zeros((), device=accelerator.device)
        total = accelerator.reduce(torch.stack([self._sums.get(name, zero) for name in names]), "sum")
        shares = (total / max(1, self._steps)).tolist()
        self.forget()
        return {f"loss_{name}": share for name, share in zip(names, shares, strict=True)}


class DistillerCallback(TrainerCallback):
    """Does for what the losses learn what the Trainer does for the model: averages and clears gradients.

    Args:
        distiller: Holds the losses.
    """

    def __init__(self, distiller: Distiller) -> None:
        self.distiller = distiller

    def on_train_begin(self, args: TrainingArguments, *_: Any, **__: Any) -> None:
        """Start from the same parameters on every process, with nothing left over to log."""
        self.distiller.forget()
        share_start(self.distiller.modules.parameters(), args)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Tell the losses how far the training is: their weights and temperatures may depend on it."""
        self.distiller.objective.set_progress(state.global_step / max(1, state.max_steps))

    def on_pre_optimizer_step(self, args: TrainingArguments, *_: Any, **__: Any) -> None:
        """Average the gradients over the processes, as DDP does for the model."""
        average_gradients(self.distiller.modules.parameters(), args)

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Clear the gradients: the Trainer clears the model's alone."""
        self.distiller.modules.zero_grad()
