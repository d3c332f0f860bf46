"""Runs a recipe: each finished step is recorded, a stopped run goes on after the last one, the output appears whole."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hfcompress import environment
from hfcompress.clustering.container import pack
from hfcompress.context import Context
from hfcompress.errors import InterruptedByUserError, RequestError
from hfcompress.export.run import export_onnx
from hfcompress.folders import move_into_place, owned, require_space, work_folder
from hfcompress.measure.quality import predict, score
from hfcompress.measure.zeros import FEW_ZEROS, Counts, count_zeros, zero_share
from hfcompress.modeling.load import load_model, load_processor
from hfcompress.pipeline import provenance
from hfcompress.pipeline.emissions import measure_emissions, total
from hfcompress.pipeline.finishing import finish, onnx_models
from hfcompress.pipeline.held_out import held_out, seen_before
from hfcompress.pipeline.job import Job
from hfcompress.pipeline.plan import plan_steps
from hfcompress.pipeline.prediction import starting_model
from hfcompress.pipeline.recipe import ORIGINAL, Step, step_named
from hfcompress.pipeline.record import data_record, recipe_record, source_of
from hfcompress.processes import is_main_process
from hfcompress.quantization.trained_ranges import forget_ranges, read_ranges

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ANSWERS = "validation_answers.npy"

_DONE = "step.json"
"""Written last into a step's folder: its presence says that the step is complete."""


def run(
    job: Job,
    output_dir: Path,
    overwrite: bool = False,
    progress: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Run a recipe's steps and put the last model into the output folder.

    Args:
        job: What `prepare` returned.
        output_dir: Where the result goes; it appears whole or not at all.
        overwrite: Replace an existing folder once the new one is complete.
        progress: Show progress bars on stderr.
        say: Told in one line what happens.

    Returns:
        What `compression.json` holds; nothing on processes other than the main one.

    Raises:
        OutputInUseError: Another run writes the output folder.
        HfcompressError: As the steps do; finished steps and checkpoints are kept for the next try.
    """
    provenance.refuse_output(output_dir, overwrite, job.recipe)
    with owned(output_dir):
        return _run(job, output_dir, progress, say)


def _run(job: Job, output_dir: Path, progress: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Run a recipe whose output belongs to this run alone."""
    require_space(
        output_dir.parent,
        sum(plan.disk_bytes for plan in plan_steps(job.config, job.steps, job.task, job.data)),
    )
    if job.data.overlap:
        say(f"note: {job.data.overlap} validation texts also stand in the training rows, which flatters the quality")
    teachers = [name for step in job.steps for name in getattr(step.config, "teachers", [])]
    for note in seen_before([job.recipe.model, *teachers], job.recipe.data.dataset, job.data):
        say(f"note: {note}")
    work = work_folder(output_dir)
    work.mkdir(parents=True, exist_ok=True)
    folders = _run_steps(job, work, output_dir, progress, say)
    _wait_for_everyone()  # so that none finds the output folder there already
    if not is_main_process():
        return {}
    final = _assemble(job, work, folders)
    record = _record(job, final, folders, say, progress)
    known = {name: np.load(folder / _ANSWERS, allow_pickle=False) for name, folder in folders.items()}
    original: dict[str, Path | str] = {ORIGINAL: job.recipe.model} if job.trained else {}
    last = job.steps[-1].name
    models = {**original, **folders, **onnx_models(final, last)}
    finish(final, record, models, job.task, job.data, known, progress, say, output_dir.name)
    move_into_place(final, output_dir)
    shutil.rmtree(work, ignore_errors=True)
    return record


def _run_steps(job: Job, work: Path, output_dir: Path, progress: bool, say: Callable[[str], None]) -> dict[str, Path]:
    """Run the steps that are not done yet; return every step's folder by its name."""
    folders: dict[str, Path] = {}
    for index, step in enumerate(job.steps):
        label = step.name if step.name == step.method.name else f"{step.method.name} ({step.name})"
        title = f"step {index + 1} of {len(job.steps)}: {label}"
        done = _reuse(job, index, work, output_dir)
        say(f"{title} is done already" if done else title)
        folders[step.name] = done or _run_step(job, index, work, folders, progress, say)
    return folders


def _step_folder(job: Job, index: int) -> str:
    return f"{index + 1}-{job.steps[index].name}-{job.fingerprint(index + 1)}"


def _reuse(job: Job, index: int, work: Path, output_dir: Path) -> Path | None:
    """Return the folder of a step that was finished before, here or in the output that is to be replaced."""
    name = _step_folder(job, index)
    places = (work / name, output_dir / "steps" / name)
    return next((place for place in places if (place / _DONE).is_file()), None)


def _run_step(
    job: Job, index: int, work: Path, folders: dict[str, Path], progress: bool, say: Callable[[str], None]
) -> Path:
    """Run one step and leave its model, complete, in a folder of its own."""
    step = job.steps[index]
    folder = work / _step_folder(job, index)
    scratch = folder.with_name(folder.name + ".scratch")
    scratch.mkdir(parents=True, exist_ok=True)
    before = folders[job.steps[index - 1].name] if index else None
    # Every step starts from the seed, so that it gives the same whether or not the steps before it were run just now.
    torch.manual_seed(job.recipe.seed)
    start = time.perf_counter()
    try:
        model = load_model(str(before), job.task) if before else starting_model(job)
        if read_ranges(model.config):  # they are those of the weights as they are
            say("the ranges of activations that were trained are dropped: this step changes the weights")
            forget_ranges(model.config)
        processor = load_processor(str(before) if before else job.recipe.model, job.task)
        context = Context(job.task, job.data, processor, job.recipe.seed, scratch, folders, progress, say=say)
        with measure_emissions(is_main_process()) as emissions:
            zeros = count_zeros(model)
            with step_named(job.steps, index):
                model = step.method.target(model, step.config, context)
            _tell_of_lost_zeros(zeros, model, say)
    except RequestError:
        _clear(scratch)
        raise
    except KeyboardInterrupt:
        raise InterruptedByUserError("Stopped.") from None
    seconds = time.perf_counter() - start
    made = folder.with_name(folder.name + ".new")
    if is_main_process():
        shutil.rmtree(made, ignore_errors=True)
        spent = {"seconds": round(seconds, 1), **({"emissions": emissions} if emissions else {})}
        _record_step(job, step, model, context, made, before, spent)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
        shutil.rmtree(scratch)
    _wait_for_everyone()
    return folder


def _tell_of_lost_zeros(before: Counts, model: PreTrainedModel, say: Callable[[str], None]) -> None:
    """Say where a step has filled most of the zeros that an earlier one made."""
    was, now = zero_share(before), zero_share(count_zeros(model))
    if was > FEW_ZEROS and now < was / 2:
        say(f"note: of the weights {was:.0%} were zeros before this step and {now:.0%} are now: it fills them")


def _clear(scratch: Path) -> None:
    """Leave no trace of a step that was refused before it began."""
    shutil.rmtree(scratch, ignore_errors=True)
    with suppress(OSError):  # the folders of finished steps stay
        scratch.parent.rmdir()


def _record_step(
    job: Job,
    step: Step,
    model: PreTrainedModel,
    context: Context,
    made: Path,
    before: Path | None,
    spent: dict[str, Any],
) -> None:
    """Save a step's model with its tokenizer, its validation logits, and the record that makes it complete."""
    model.save_pretrained(made)
    context.processor.save_pretrained(made)
    rows, task = job.data.validation, job.task
    answers = predict(model, context.processor, rows, task, job.data.max_length, progress=context.progress)
    np.save(made / _ANSWERS, answers, allow_pickle=False)
    quality = score(answers, task.references(rows), task, job.recipe.seed)
    record = {
        "name": step.name,
        "method": step.method.name,
        "config": job.settings[job.steps.index(step)],
        **spent,
        "before": _read(before)["after"] if before else None,
        "after": quality.to_dict(),
        **({"findings": context.findings} if context.findings else {}),
    }
    provenance.write_json(made / _DONE, record)


def _wait_for_everyone() -> None:
    """Under `accelerate launch` or `torchrun`: the others go on once the main process has saved."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()


def _read(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / _DONE).read_text(encoding="utf-8"))
    return record


def _assemble(job: Job, work: Path, folders: dict[str, Path]) -> Path:
    """Put the last step's model where the output folder is prepared, and earlier ones beside it if they are kept."""
    final = work / "final"
    shutil.rmtree(final, ignore_errors=True)
    last, own = folders[job.steps[-1].name], shutil.ignore_patterns(_DONE, _ANSWERS)
    # Contents alone: safetensors writes files that nobody else may read.
    shutil.copytree(last, final, ignore=own, copy_function=shutil.copyfile)
    if job.recipe.keep_steps:
        for folder in folders.values():
            shutil.copytree(folder, final / "steps" / folder.name, copy_function=shutil.copyfile)
    return final


def _record(
    job: Job, final: Path, folders: dict[str, Path], say: Callable[[str], None], progress: bool
) -> dict[str, Any]:
    """Return what `compression.json` is to hold, but for the results; exports the model if the recipe says so."""
    steps = [_read(folder) for folder in folders.values()]
    processor = load_processor(str(final), job.task)
    record = {
        "fingerprint": job.output_fingerprint(),
        "description": job.recipe.description,
        "task": job.task.name,
        "source": source_of(job),
        "recipe": recipe_record(job),
        "data": data_record(job.data, job.recipe.data.dataset, job.task, processor) | held_out(job.data),
        "seed": job.recipe.seed,
        "steps": steps,
        "versions": environment.versions(),
        "hardware": environment.hardware(),
    }
    emissions = total([step.get("emissions", {}) for step in steps])
    if emissions:
        record["emissions"] = emissions
    if job.recipe.pack is not None:
        say("packing the checkpoint")
        packed = pack(final, final / job.recipe.pack, progress=progress, say=say).to_dict()
        record["packed"] = {**packed, "file": job.recipe.pack, "tensors": len(packed["tensors"])}
    if job.recipe.export is not None:
        say("exporting to ONNX")
        options = (job.recipe.export, job.data, job.recipe.seed, say, progress)
        # Nobody else holds the model, so that its memory is free once it was traced.
        record["export"] = export_onnx(load_model(str(final), job.task), processor, job.task, final, *options)
    return record
