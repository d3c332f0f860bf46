"""One training run inside a step: arguments, data, trainer, resume, Ctrl-C."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hfcompress.context import Context
from hfcompress.data import TEACHER_PREFIX, tokenize
from hfcompress.errors import InterruptedByUserError, NonFiniteLossError, RequestError
from hfcompress.training.checkpoints import checkpoints
from hfcompress.training.options import DEFAULTS

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from hfcompress.training.arguments import CompressionArguments


@dataclass
class Run:
    """What to train, and how.

    Args:
        title: Shown beside the progress bar.
        training: TrainingArguments that differ from `DEFAULTS`.
        teacher: The model to learn from, if any.
        teacher_tokenizer: Its tokenizer.
        losses: What the student is trained on.
        layer_map: Which layers the losses on hidden states compare.
    """

    title: str
    training: dict[str, Any]
    teacher: PreTrainedModel | None = None
    teacher_tokenizer: PreTrainedTokenizerBase | None = None
    losses: dict[str, Any] | None = None
    layer_map: str = "uniform"


def train(model: PreTrainedModel, run: Run, context: Context) -> PreTrainedModel:
    """Train a model on the context's data, from the last checkpoint in its work folder if there is one.

    Raises:
        InterruptedByUserError: Ctrl-C; a checkpoint was saved.
        NonFiniteLossError: The loss became NaN or infinite.
    """
    from transformers import PrinterCallback
    from transformers import ProgressCallback as TransformersProgress

    from hfcompress.training.callbacks import InterruptCallback, ProgressCallback
    from hfcompress.training.collator import PairedCollator
    from hfcompress.training.teacher import same_vocabulary
    from hfcompress.training.trainer import CompressionTrainer

    args = build_arguments(
        run.training,
        output_dir=str(context.work_dir),
        seed=context.seed,
        losses=run.losses,
        layer_map=run.layer_map,
    )
    other = run.teacher_tokenizer
    if other is not None and same_vocabulary(other, context.tokenizer):
        other = None
    interrupt = InterruptCallback()
    progress = ProgressCallback(run.title, show=context.progress)
    trainer = CompressionTrainer(
        model=model,
        args=args,
        train_dataset=tokenize(context.data.train, context.tokenizer, context.data.max_length, other),
        data_collator=PairedCollator(context.tokenizer, other, TEACHER_PREFIX),
        processing_class=context.tokenizer,
        teacher=run.teacher,
        teacher_processing_class=run.teacher_tokenizer,
        callbacks=[interrupt, progress],
    )
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
