"""Builds a cache of a teacher's answers: planned, announced, computed batch by batch, and gone on with when stopped."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hfcompress.data import TEACHER_PREFIX
from hfcompress.errors import Fault, TeacherError
from hfcompress.processes import is_main_process
from hfcompress.training import cache
from hfcompress.training.cache import CacheFolder, again
from hfcompress.training.cache_identity import CacheIdentity, example_digests, identity_columns
from hfcompress.training.cache_losses import hidden_layers, loss_faults, uncacheable
from hfcompress.training.cache_plan import CacheSettings, Source, plan
from hfcompress.training.cache_writing import write_batch
from hfcompress.training.cached_teacher import CachedTeacher
from hfcompress.training.teacher import ROW_MASK, ModelTeacher

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PretrainedConfig

    from hfcompress.tasks.base import Collator
    from hfcompress.training.objective import Objective

logger = logging.getLogger(__name__)

_SECONDS = 10.0
"""So often what was computed is written through to the disk, and noted."""


@dataclass
class Watch:
    """Who is told what.

    Args:
        say: Takes one line, for the user.
        progress: Whether a progress bar is shown.
        report: Is told after each batch how many are done, and of how many.
    """

    say: Callable[[str], None] = logger.info
    progress: bool = False
    report: Callable[[int, int], None] | None = None


@dataclass
class Job:
    """What is cached, and how.

    Args:
        teacher: The model.
        rows: Encoded examples, with what the teacher reads.
        collate: Pads a batch of them, always in the same way.
        objective: The losses: they say what of the answers is kept.
        identity: Of the teacher, the data and its tokenization.
        settings: Batch size and so on.
        watch: Who is told of the progress.
        every_layer: Keep all hidden states, where a loss reads some, and not only those.
    """

    teacher: ModelTeacher
    rows: Dataset
    collate: Collator
    objective: Objective
    identity: CacheIdentity
    settings: CacheSettings = field(default_factory=CacheSettings)
    watch: Watch = field(default_factory=Watch)
    every_layer: bool = False


def cached(job: Job, folder: Path, student: PretrainedConfig) -> CachedTeacher:
    """Return a teacher's answers from a folder, computed first where they are not there yet.

    Where several processes run, each computes its share of the batches, and all return the same.

    Args:
        job: What is cached.
        folder: The cache; made when it does not exist, gone on with when it is not finished.
        student: The student's config.

    Returns:
        The teacher; its `train_dataset` is the job's rows with the column that says where their answers stand.

    Raises:
        TeacherError: The cache is of another teacher, other data or another tokenization, it lacks what the losses
            read, or they read what cannot be cached.
        DiskSpaceError: The disk lacks room.
        NonFiniteLossError: An answer of the teacher holds NaN or infinity.
    """
    build(job, folder)
    found = CachedTeacher(folder, student, job.rows)
    found.check(job.objective, job.teacher.task)
    return found


def build(job: Job, folder: Path) -> None:
    """Compute a teacher's answers into a folder, where they are not there yet; see `cached`."""
    faults = uncacheable(job.objective)
    if faults:
        raise TeacherError(*faults)
    source = _source(job)
    there = CacheFolder.exists(folder)
    if there:
        _compare(folder, job, source)
    _wait()
    if not there:
        header, arrays = plan(source, job.objective, job.identity, job.settings)
        if is_main_process():
            job.watch.say(f"The cache of the teacher's answers takes {header.size / 1e6:,.1f} MB in {folder}.")
            CacheFolder.create(folder, header, arrays, job.teacher.config)
    _wait()
    opened = CacheFolder(folder)
    if not opened.is_complete:
        _compute(opened, source, job.watch)
        _wait()
        if is_main_process():
            opened.mark_complete()
    _wait()


def _source(job: Job) -> Source:
    """Put together what answers are computed from: the teacher in its own order of labels, ready to be asked."""
    teacher = replace(job.teacher, label_order=None)
    teacher.prepare(job.objective.teacher_needs, deferred=True)
    device = _device()
    teacher.to(device)
    prefix = "" if teacher.shares_tokens else TEACHER_PREFIX
    columns = identity_columns(job.rows, sorted(teacher.columns), teacher.task, prefix, [ROW_MASK])
    if not columns:
        read = ", ".join(sorted(prefix + name for name in teacher.columns))
        problem = f"holds nothing that the teacher reads ({read})."
        raise TeacherError(Fault("train_dataset", problem, "Tokenize it first."))
    digests = example_digests(job.rows, columns, teacher.task.names_labels)
    layers = None if job.every_layer else hidden_layers(job.objective)
    return Source(teacher, job.rows, job.collate, device, tuple(columns), digests, layers)


def _compare(folder: Path, job: Job, source: Source) -> None:
    """Make sure that a cache is the one that would be built.

    Raises:
        TeacherError: It is not; every part that differs is named.
    """
    found = CacheFolder(folder)
    have, contents, digests = found.header.identity, found.header.contents, found.open()[cache.DIGESTS]
    same_examples = np.array_equal(digests, source.digests)
    other_tokens = have.tokenization != job.identity.tokenization
    if have.data and job.identity.data:
        other_data = have.data != job.identity.data
    else:
        other_data = not other_tokens and not same_examples
    parts = {
        "another model": have.model != job.identity.model,
        "other data": other_data,
        "another tokenization": other_tokens,
        "other encoded examples": not same_examples and not other_data and not other_tokens,
    }
    differing = ", ".join(name for name, differs in parts.items() if differs)
    faults = [Fault(str(folder), f"was built from {differing}.", again(folder))] if differing else []
    if contents.top_k and job.settings.top_k not in (None, contents.top_k):
        problem = f"has other contents: the {contents.top_k} likeliest classes, not {job.settings.top_k}."
        faults.append(Fault(str(folder), problem, again(folder)))
    for fault in loss_faults(job.objective, contents, again(folder)):
        faults.append(Fault(str(folder), f"has other contents: {fault.problem}", fault.fix))
    if faults:
        raise TeacherError(*faults)


def _compute(folder: CacheFolder, source: Source, watch: Watch) -> None:
    """Compute this process's share of the batches that are not done."""
    from tqdm.auto import tqdm

    arrays = folder.open("r+")
    batches = source.batches(arrays[cache.TOKEN_OFFSETS], folder.header.batch_size)
    rank, world = _process()
    mine = [number for number in range(rank, len(batches), world) if not arrays[cache.PROGRESS][number]]
    settle = partial(_settle, arrays)
    fresh: list[int] = []
    last = time.monotonic()
    bar = tqdm(mine, desc="teacher", unit="batch", leave=False, disable=not watch.progress or not is_main_process())
    try:
        for count, number in enumerate(bar, start=1):
            write_batch(arrays, folder.header.contents, source, batches[number])
            fresh.append(number)
            if time.monotonic() - last > _SECONDS:
                settle(fresh)
                last = time.monotonic()
            if watch.report is not None:
                watch.report(count, len(mine))
    finally:
        settle(fresh)
        bar.close()


def _settle(arrays: dict[str, np.ndarray], fresh: list[int]) -> None:
    """Write what was computed through to the disk, and only then note which batches that was."""
    for name, array in arrays.items():
        if name != cache.PROGRESS:
            array.flush()  # type: ignore[attr-defined]
    arrays[cache.PROGRESS][fresh] = 1
    arrays[cache.PROGRESS].flush()  # type: ignore[attr-defined]
    fresh.clear()


def _process() -> tuple[int, int]:
    """Return which of how many processes this is."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def _wait() -> None:
    """Wait until all processes are here."""
    if _process()[1] > 1:
        _state().wait_for_everyone()


def _state() -> Any:
    from accelerate import PartialState

    return PartialState(cpu=not torch.accelerator.is_available())


def _device() -> torch.device:
    """Return this process's accelerator, or the CPU."""
    if _process()[1] > 1:
        return torch.device(_state().device)
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")
