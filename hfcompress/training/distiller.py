"""A teacher at work: what each batch holds, what both models say of it, and what that costs the student."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed
from accelerate import Accelerator
from torch import Tensor
from transformers import TrainerCallback, TrainingArguments

from hfcompress.data import TEACHER_PREFIX
from hfcompress.errors import Fault, TeacherError
from hfcompress.training.objective import (
    Counts,
    LayerMap,
    ModelPair,
    Objective,
    Signals,
    build_objective,
    parse_losses,
    without_padding,
)
from hfcompress.training.teacher import Teacher, check_teacher

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from transformers.utils.generic import ModelOutput

logger = logging.getLogger(__name__)


class Distiller:
    """Turns two models' answers to a batch into the loss that the student is trained on.

    Args:
        teacher: A checked teacher.
        objective: The weighted losses.
    """

    def __init__(self, teacher: Teacher, objective: Objective) -> None:
        self.teacher = teacher
        self.objective = objective
        self.modules = objective.modules()
        self._total: Counts
        self._sums: dict[str, Tensor] = {}
        self._steps = 0

    def teacher_columns(self) -> list[str]:
        """Return the columns of the data that the teacher reads."""
        prefix = "" if self.teacher.shares_tokens else TEACHER_PREFIX
        return [prefix + name for name in sorted(self.teacher.columns)]

    def count(self, batches: Sequence[Mapping[str, Any]], accelerator: Accelerator) -> None:
        """Note what the batches of one optimizer step hold, over all processes: the losses are divided by it."""
        counts = torch.stack([torch.stack(_count(batch)) for batch in batches]).sum(0).to(accelerator.device)
        self._total = Counts(*accelerator.reduce(counts, "sum"))
        self._steps += 1

    def labels_in(self, batch: Mapping[str, Any]) -> Tensor:
        """Return how many labels a micro-batch holds, a scalar."""
        return _count(batch)[2]

    def loss(
        self, batch: Mapping[str, Any], student_says: ModelOutput, teacher_says: ModelOutput, task_mean: Tensor | None
    ) -> Tensor:
        """Return a micro-batch's share of the whole batch's loss.

        Args:
            batch: The micro-batch.
            student_says: The student's outputs.
            teacher_says: The teacher's.
            task_mean: The student's own mean loss on its labels; None when there is no task loss.
        """
        mask = _mask(batch) if self.objective.needs_hidden_states else None
        student, teacher = _signals(student_says, mask), _signals(teacher_says, mask)
        shares = self.objective(student, teacher, task_mean, Counts(*_count(batch)), self._total)
        for name, share in shares.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(share)) + share.detach()
        return torch.stack(list(shares.values())).sum()

    def forget(self) -> None:
        """Drop what was gathered for the log."""
        self._sums, self._steps = {}, 0

    def averages(self, accelerator: Accelerator) -> dict[str, float]:
        """Return each loss's share of the loss, averaged over the steps since the last call, and start anew."""
        if not self._sums:
            return {}
        names = list(self._sums)
        total = accelerator.reduce(torch.stack([self._sums[name] for name in names]), "sum")
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
        if args.world_size > 1:
            for parameter in self.distiller.modules.parameters():
                torch.distributed.broadcast(parameter.data, src=0)

    def on_pre_optimizer_step(self, args: TrainingArguments, *_: Any, **__: Any) -> None:
        """Average the gradients over the processes, as DDP does for the model."""
        if args.world_size > 1:
            for parameter in self.distiller.modules.parameters():
                if parameter.grad is not None:
                    torch.distributed.all_reduce(parameter.grad)
                    parameter.grad /= args.world_size

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Clear the gradients: the Trainer clears the model's alone."""
        self.distiller.modules.zero_grad()


def build_distiller(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    tokenizers: tuple[PreTrainedTokenizerBase | None, PreTrainedTokenizerBase | None],
    losses: Mapping[str, Any] | str,
    layer_map: LayerMap,
    columns: Sequence[str] | None,
) -> Distiller:
    """Check that the two models go together, and build their losses.

    Args:
        student: The model to train.
        teacher: The model to learn from.
        tokenizers: The student's and the teacher's, where known.
        losses: Names, weights and options.
        layer_map: Which layers the losses on hidden states compare.
        columns: Of the training data; None when unknown.

    Raises:
        TeacherError: The teacher is not fit to teach this student.
        RequestError: Losses or layer map do not fit the two models.
    """
    own, theirs = tokenizers
    checked = check_teacher(teacher, student, theirs, own)
    objective = build_objective(parse_losses(losses), ModelPair(student.config, teacher.config, layer_map))
    if not checked.shares_tokens:
        _check_tokens(objective, columns)
    ours, larger = (sum(parameter.numel() for parameter in model.parameters()) for model in (student, teacher))
    if ours > larger:
        logger.warning("The student (%.1f M parameters) is larger than its teacher (%.1f M).", ours / 1e6, larger / 1e6)
    return Distiller(checked, objective)


def _check_tokens(objective: Objective, columns: Sequence[str] | None) -> None:
    """Refuse losses that compare tokens when teacher and student read different ones.

    Raises:
        TeacherError: There are such losses, or the training data holds no tokens for the teacher.
    """
    problem = "its tokenizer differs from the student's"
    if objective.token_losses:
        working = [name for name in objective.terms if name not in objective.token_losses]
        fix = f"Leave them out; losses on logits still work{': ' + ', '.join(working) if working else ', such as kl'}."
        names = ", ".join(objective.token_losses)
        raise TeacherError(Fault("teacher", f"{problem}, and {names} compare token by token.", fix))
    if columns is not None and f"{TEACHER_PREFIX}input_ids" not in columns:
        fix = f"Tokenize the text for it too: columns {TEACHER_PREFIX}input_ids and {TEACHER_PREFIX}attention_mask."
        raise TeacherError(Fault("teacher", f"{problem}.", fix))


def _mask(batch: Mapping[str, Any]) -> Tensor:
    mask = batch.get("attention_mask")
    return mask.bool() if mask is not None else torch.ones_like(batch["input_ids"], dtype=torch.bool)


def _count(batch: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Count the rows of logits, the tokens and the labels of one batch, on its device."""
    first = next(iter(batch.values()))
    rows = torch.tensor(len(first), device=first.device)
    tokens = _mask(batch).sum() if "input_ids" in batch else rows
    labels = batch["labels"].ne(-100).sum() if "labels" in batch else torch.zeros_like(rows)
    return rows, tokens, labels


def _signals(outputs: ModelOutput, mask: Tensor | None) -> Signals:
    hidden = () if mask is None else without_padding(tuple(outputs["hidden_states"]), mask)
    return Signals(outputs["logits"], hidden)
