"""One training run inside a step: arguments, data, trainer, resume, Ctrl-C."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hfcompress.context import Context
from hfcompress.data import TEACHER_PREFIX, encode
from hfcompress.errors import Fault, InterruptedByUserError, NonFiniteLossError, RequestError
from hfcompress.tasks.base import reads_segments
from hfcompress.training.checkpoints import checkpoints
from hfcompress.training.lora import LoraOptions, adapted
from hfcompress.training.options import DEFAULTS

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel

    from hfcompress.training.alteration import Alteration
    from hfcompress.training.arguments import CompressionArguments
    from hfcompress.training.teacher import Teacher


@dataclass
class Run:
    """What to train, and how.

    Args:
        title: Shown beside the progress bar.
        training: TrainingArguments that differ from `DEFAULTS`.
        teachers: What to learn from, models or caches, each with its tokenizer or image processor.
        teacher_weights: The teachers' weights; all alike when None.
        losses: What the student is trained on.
        layer_map: Which layers the losses on hidden states compare.
        rows: Encoded rows to train on, where they are at hand; by default the context's are encoded.
        alterations: What changes the model meanwhile, by its kind, as `CompressionTrainer` names it.
        lora: Trains adapters and the head alone, which are merged afterwards; not together with alterations.
    """

    title: str
    training: dict[str, Any]
    teachers: Sequence[tuple[PreTrainedModel | Teacher, Any]] = ()
    teacher_weights: Sequence[float] | None = None
    losses: dict[str, Any] | None = None
    layer_map: str = "uniform"
    rows: Dataset | None = None
    alterations: Mapping[str, Alteration] = field(default_factory=dict)
    lora: LoraOptions | None = None


def train(model: PreTrainedModel, run: Run, context: Context) -> PreTrainedModel:
    """Train a model on the context's data, from the last checkpoint in its work folder if there is one.

    Without a teacher it learns from the labelled rows alone.

    Raises:
        RequestError: The adapters do not fit the model, or stand beside an alteration.
        InterruptedByUserError: Ctrl-C; a checkpoint was saved.
        NonFiniteLossError: The loss became NaN or infinite.
    """
    if run.lora is None:
        return _train(model, run, context)
    if run.alterations:
        problem = f"does not go with {', '.join(run.alterations)} in training."
        raise RequestError(Fault("lora", problem, "Train adapters in a later step."))
    # Through checkpoints that are reentrant, no gradient gets from frozen embeddings to the adapters behind them.
    kwargs = {**(run.training.get("gradient_checkpointing_kwargs") or {}), "use_reentrant": False}
    training = {**run.training, "gradient_checkpointing_kwargs": kwargs}
    with adapted(model, run.lora, context.seed):
        return _train(model, replace(run, training=training), context)


def _readable(rows: Dataset, model: PreTrainedModel, run: Run) -> Dataset:
    """Leave out kinds of segments where nobody reads them: the Trainer gives GPT-2 all that its forward can take."""
    unread = "token_type_ids" in rows.column_names and not run.teachers and not reads_segments(model.config)
    return rows.remove_columns("token_type_ids") if unread else rows


def _train(model: PreTrainedModel, run: Run, context: Context) -> PreTrainedModel:
    """Train the parameters that require a gradient."""
    from transformers import PrinterCallback
    from transformers import ProgressCallback as TransformersProgress

    from hfcompress.training.callbacks import InterruptCallback, ProgressCallback
    from hfcompress.training.collator import PairedCollator
    from hfcompress.training.trainer import CompressionTrainer

    args = build_arguments(
        run.training,
        output_dir=str(context.work_dir),
        seed=context.seed,
        losses=run.losses,
        layer_map=run.layer_map,
    )
    other = foreign_processor(run.teachers, context)
    interrupt = InterruptCallback()
    progress = ProgressCallback(run.title, show=context.progress, alterations=run.alterations.values())
    altered: dict[str, Any] = dict(run.alterations)
    trainer = CompressionTrainer(
        model=model,
        args=args,
        train_dataset=_readable(run.rows if run.rows is not None else encode_rows(context, run.teachers), model, run),
        data_collator=PairedCollator(context.task, context.processor, other),
        processing_class=context.processor,
        teacher=list(run.teachers) or None,
        teacher_weights=run.teacher_weights,
        **altered,
        callbacks=[interrupt, progress],
    )
    trainer.raw_columns = ("image", f"{TEACHER_PREFIX}image")
    for callback in (PrinterCallback, TransformersProgress):
        trainer.remove_callback(callback)
    saved = checkpoints(context.work_dir)
    try:
        trainer.train(resume_from_checkpoint=str(saved[0]) if saved else None)
    finally:
        # The Trainer does not tell its callbacks when it fails.
        interrupt.restore()
        progress.close()
    if interrupt.interrupted:
        raise InterruptedByUserError(
            f"Stopped at step {trainer.state.global_step} of {trainer.state.max_steps}; a checkpoint is kept."
        )
    trained = trainer.accelerator.unwrap_model(trainer.model).eval()
    if not all(parameter.isfinite().all() for parameter in trained.parameters()):
        raise NonFiniteLossError(
            "Training diverged: weights became NaN or infinite. Lower the learning rate, or train without fp16."
        )
    return trained


def encode_rows(context: Context, teachers: Sequence[tuple[Any, Any]] = ()) -> Dataset:
    """Return what the models read of the rows to train on; those without labels are for teachers alone."""
    rows = context.data.with_unlabeled if teachers else context.data.train
    return encode(rows, context.task, context.processor, context.data.max_length, foreign_processor(teachers, context))


def foreign_processor(teachers: Sequence[tuple[Any, Any]], context: Context) -> Any:
    """Return the tokenizer of teachers that read other tokens than the student; None when they read the same.

    Raises:
        TeacherError: Two of them read different tokens.
    """
    from hfcompress.errors import TeacherError
    from hfcompress.training.teacher_checks import same_vocabulary

    own = context.processor
    readers = [one for _, one in teachers if hasattr(one, "get_vocab") and hasattr(own, "get_vocab")]
    others = [one for one in readers if not same_vocabulary(one, own)]
    if len(others) not in (0, len(readers)) or any(not same_vocabulary(one, others[0]) for one in others[1:]):
        problem = "several teachers read different tokens."
        raise TeacherError(Fault("teacher", problem, "Cache their answers (cache_teacher), or choose teachers alike."))
    return others[0] if others else None


def build_arguments(training: dict[str, Any], **ours: Any) -> CompressionArguments:
    """Build the arguments of a run.

    Args:
        training: TrainingArguments that differ from `DEFAULTS`.
        **ours: What the step sets itself.

    Raises:
        RequestError: transformers refuses them.
    """
    from hfcompress.training.arguments import CompressionArguments

    try:
        return CompressionArguments(disable_tqdm=True, eval_strategy="no", **ours, **_settings(training))
    except RequestError:
        raise
    except (ValueError, ImportError) as error:
        raise RequestError(f"transformers refuses these training arguments: {error}") from None


def _settings(training: dict[str, Any]) -> dict[str, Any]:
    import torch

    # Without an accelerator several processes find each other (by gloo) only when told that they are on CPUs.
    on_cpu = {} if torch.accelerator.is_available() else {"use_cpu": True, "dataloader_pin_memory": False}
    return DEFAULTS | on_cpu | training
