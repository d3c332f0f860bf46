"""The training steps that `distillation.py` times: what each library does for one batch, without fetching it.

All rows train copies of one student with transformers' own AdamW and clip gradients to 1. Those that distil, but
`online_hidden`, minimise 0.7 KL at temperature 2 + 0.3 cross entropy: their gradients are the same, which
`tests/benchmarks/test_distillation.py` holds. Batches are padded and cut to a row's columns before its clock starts.

TextBrewer 0.2.1 runs unmodified on today's transformers and torch. It imports TensorBoard, which it writes logs with;
where that is not installed, an empty module stands in for it, and with `log_dir=None` nothing is logged either way.
Its loss is not multiplied by the temperature squared, so its weight is 0.7 * 2^2. Its step is the body of the loop in
its `train_with_num_steps`: `train_on_batch`, `write_loss`, backward, clip, optimizer. (Its BasicDistiller can also keep
logits, in memory, for batches that stay the same in every epoch and teachers that read the student's tokens; that is
not timed.)
"""

import copy
import importlib.util
import inspect
import sys
import time
import types
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.nn import functional
from transformers import PreTrainedModel, Trainer, TrainingArguments

from hfcompress import CompressionArguments, CompressionTrainer, cache_teacher
from hfcompress.data import TEACHER_PREFIX
from hfcompress.tasks import find_task
from hfcompress.training.collator import PairedCollator
from hfcompress.training.teacher import CACHE_COLUMN

TASK = find_task("text-classification")
TEMPERATURE, WEIGHT, MAX_GRAD_NORM = 2.0, 0.7, 1.0
KL = {"kl": {"weight": WEIGHT, "temperature": TEMPERATURE}, "task": 1 - WEIGHT}
TEXTBREWER = "textbrewer"


@dataclass
class Pair:
    """A teacher, a student, and what both read.

    Args:
        what: For the reader of the results.
        teacher: Its head is not as it was initialised.
        student: Each row trains a copy.
        rows: Encoded examples; columns that start with `teacher_` where the teacher reads other tokens.
        tokenizer: The student's.
        teacher_tokenizer: The teacher's, where it reads other tokens, else None.
    """

    what: str
    teacher: PreTrainedModel
    student: PreTrainedModel
    rows: Dataset
    tokenizer: Any
    teacher_tokenizer: Any = None

    def __post_init__(self):
        """Note what the teacher's forward pass takes: an MPNet's tokenizer returns token types that MPNet refuses."""
        self.teacher_columns = set(inspect.signature(self.teacher.forward).parameters) - {"labels"}

    @property
    def collate(self):
        """What pads a batch for both."""
        return PairedCollator(TASK, self.tokenizer, self.teacher_tokenizer)

    def for_student(self, batch):
        """Return the columns that the student reads, and the labels."""
        return {name: value for name, value in batch.items() if not name.startswith((TEACHER_PREFIX, CACHE_COLUMN))}

    def for_teacher(self, batch):
        """Return the columns that the teacher reads, named as it names them."""
        prefix = TEACHER_PREFIX if self.teacher_tokenizer else ""
        theirs = {name.removeprefix(prefix): value for name, value in batch.items() if name.startswith(prefix)}
        return {name: value for name, value in theirs.items() if name in self.teacher_columns}

    def for_both(self, batch):
        """Return what student and teacher read."""
        return {name: value for name, value in batch.items() if name != CACHE_COLUMN}

    def for_cached(self, batch):
        """Return what the student reads, and where the teacher's answers stand."""
        return {**self.for_student(batch), CACHE_COLUMN: batch[CACHE_COLUMN]}


@dataclass
class Row:
    """One way to take a step.

    Args:
        what: What is timed, for the reader of the results.
        select: Makes what the step takes out of a batch with the columns of all rows; not timed.
        step: Is timed.
        student: The model that it trains, if it trains one.
    """

    what: str
    select: Callable
    step: Callable
    student: PreTrainedModel | None = None


def build_rows(pair, scratch):
    """Return the rows by name, the examples with the column that the cached row reads, and the seconds of caching."""
    start = time.perf_counter()
    folder = cache_teacher(
        pair.teacher,
        pair.rows,
        Path(scratch) / "cache",
        processor=pair.teacher_tokenizer or pair.tokenizer,
        collator=pair.collate,
        losses=KL,
    )
    seconds = time.perf_counter() - start
    plain = Trainer(copy.deepcopy(pair.student), arguments(TrainingArguments, scratch))
    cached = ours(pair, scratch, KL, folder)
    rows = {
        "plain": Row("plain `Trainer` on the student", pair.for_student, stepper(plain), plain.model),
        "teacher": Row("the teacher's forward pass alone", pair.for_teacher, teacher_step(pair.teacher)),
        "override": override(pair, scratch),
        "online": online("`CompressionTrainer` with the teacher: kl", pair, scratch, KL),
        "cached": Row(
            "`CompressionTrainer` with its cached answers: kl", pair.for_cached, stepper(cached), cached.model
        ),
    }
    if pair.teacher_tokenizer is None:
        hidden = {**KL, "hidden_mse": 0.1}
        what = "`CompressionTrainer` with the teacher: kl, hidden_mse"
        rows["online_hidden"] = online(what, pair, scratch, hidden)
    if importlib.util.find_spec(TEXTBREWER):
        rows[TEXTBREWER] = textbrewer(pair, scratch)
    return rows, cached.train_dataset, seconds


def arguments(kind, scratch, **more):
    """Return training arguments that are the same for all rows."""
    return kind(output_dir=scratch, report_to="none", use_cpu=True, dataloader_pin_memory=False, **more)


def ours(pair, scratch, losses, teacher):
    """Return our Trainer on a copy of the student."""
    return CompressionTrainer(
        copy.deepcopy(pair.student),
        arguments(CompressionArguments, scratch, losses=losses),
        train_dataset=pair.rows,
        processing_class=pair.tokenizer,
        teacher=teacher,
        teacher_processing_class=pair.teacher_tokenizer or pair.tokenizer,
    )


def online(what, pair, scratch, losses):
    """Ours, with the teacher itself."""
    trainer = ours(pair, scratch, losses, pair.teacher)
    return Row(what, pair.for_both, stepper(trainer), trainer.model)


def teacher_step(teacher):
    """The teacher's forward pass alone."""

    @torch.no_grad()
    def step(batch):
        teacher(**batch)

    return step


class OverridingTrainer(Trainer):
    """What people write without a library, after transformers' guide to knowledge distillation."""

    pair: Pair

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Return KL + cross entropy."""
        outputs = model(**self.pair.for_student(inputs))
        with torch.no_grad():
            logits = self.pair.teacher(**self.pair.for_teacher(inputs)).logits
        wanted = functional.softmax(logits / TEMPERATURE, dim=-1)
        found = functional.log_softmax(outputs.logits / TEMPERATURE, dim=-1)
        kl = functional.kl_div(found, wanted, reduction="batchmean") * TEMPERATURE**2
        loss = WEIGHT * kl + (1 - WEIGHT) * outputs.loss
        return (loss, outputs) if return_outputs else loss


def override(pair, scratch):
    """Plain Trainer with that override."""
    trainer = OverridingTrainer(copy.deepcopy(pair.student), arguments(TrainingArguments, scratch))
    trainer.pair = pair
    return Row("`Trainer` with an overridden `compute_loss`: kl", pair.for_both, stepper(trainer), trainer.model)


def stepper(trainer):
    """Return what a Trainer does for one batch: count, loss, backward, clip, optimizer."""
    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1

    def step(batch):
        (batch,), count = trainer.get_batch_samples(iter([batch]), 1, torch.device("cpu"))
        trainer.training_step(trainer.model, batch, count)
        torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), MAX_GRAD_NORM)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()

    return step


@contextmanager
def without_tensorboard():
    """Let TextBrewer be imported where neither of the two packages that write TensorBoard's logs is installed."""
    missing = not any(importlib.util.find_spec(name) for name in ("tensorboardX", "tensorboard"))
    if missing:
        sys.modules["tensorboardX"] = types.SimpleNamespace(SummaryWriter=None)
    yield
    if missing:
        del sys.modules["tensorboardX"]


def textbrewer(pair, scratch):
    """TextBrewer's GeneralDistiller; needs the package."""
    with without_tensorboard():
        from textbrewer import DistillationConfig, GeneralDistiller, TrainingConfig

    student = copy.deepcopy(pair.student)
    optimizer = Trainer(student, arguments(TrainingArguments, scratch)).create_optimizer()
    config = DistillationConfig(
        temperature=TEMPERATURE,
        kd_loss_type="ce",
        kd_loss_weight=WEIGHT * TEMPERATURE**2,
        hard_label_weight=1 - WEIGHT,
    )
    training = TrainingConfig(log_dir=None, output_dir=scratch, device="cpu")
    distiller = GeneralDistiller(
        training,
        config,
        pair.teacher,
        student,
        lambda batch, outputs: {"logits": outputs.logits},
        lambda batch, outputs: {"logits": outputs.logits, "losses": outputs.loss},
    )
    distiller.__enter__()  # the teacher evaluates and the student trains, as under its `with distiller:`

    def step(batch):
        loss, parts = distiller.train_on_batch(batch, {})
        distiller.write_loss(loss, 0, parts)
        loss /= training.gradient_accumulation_steps
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), MAX_GRAD_NORM)
        optimizer.step()
        optimizer.zero_grad()

    def select(batch):
        return {"teacher": pair.for_teacher(batch), "student": pair.for_student(batch)}

    return Row("TextBrewer 0.2.1's `GeneralDistiller`: kd_loss", select, step, student)
