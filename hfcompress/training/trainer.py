"""`CompressionTrainer`: transformers' Trainer with a teacher and alterations, and the mixin for any Trainer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler
from transformers import Trainer

from hfcompress.errors import NonFiniteLossError
from hfcompress.training.answers import Answer
from hfcompress.training.building import Lesson, build_distiller
from hfcompress.training.cached_teacher import CachedTeacher, is_cache
from hfcompress.training.checkpoints import last_good_checkpoint
from hfcompress.training.distiller import Distiller, DistillerCallback
from hfcompress.training.learned import add_to_optimizer
from hfcompress.training.objective import DEFAULT_LOSSES, LayerMap
from hfcompress.training.sampler import LengthGroupedSampler
from hfcompress.training.teacher import Teacher, load_teacher
from hfcompress.training.trainer_alterations import AlterationLike, AlterationMixin

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TeacherLike: TypeAlias = "PreTrainedModel | Teacher | str | Path | tuple[PreTrainedModel | Teacher, Any]"
"""A model (perhaps with its tokenizer), its name or folder, or a folder of cached answers."""

_OBJECTIVE_FILE = "distillation.safetensors"
"""What is learned beside the student, in each checkpoint."""


class CompressionMixin(AlterationMixin):
    """Gives a `Trainer` subclass a teacher, and alters its model: `class MyTrainer(CompressionMixin, SomeTrainer)`.

    Without them it changes nothing: losses and weights are bit for bit those of the class it is mixed into.

    Args:
        *args: For the Trainer.
        teacher: A model, a Hub id, folder or short name of one, a folder of cached answers, or a list of these, whose
            predictions are averaged; None trains without.
        teacher_processing_class: The teacher's tokenizer, to compare vocabularies; one given by name brings its own.
        teacher_weights: The weight of each teacher of a list; all alike when None.
        layer_map: Which layers the losses on hidden states compare; overrides `args.layer_map`.
        pruning: How the model is pruned while it is trained; see `AlterationMixin`.
        quantization: How it learns to do with fewer bits.
        clustering: How its weights share values.
        **kwargs: For the Trainer.

    Raises:
        TeacherError: The teacher is not fit to teach this student.
        RequestError: Losses or layer map do not fit the two models, or what alters it the model.
    """

    # Here and not in `__init__`, since a Trainer's own may already ask for them.
    distiller: Distiller | None = None
    raw_columns: tuple[str, ...] = ()
    """Columns that neither model takes, but of which the collator makes what they take."""
    _student_columns: frozenset[str] = frozenset()
    _grouped: LengthGroupedSampler | None = None
    _signature_columns: Any
    train_dataset: Any

    def __init__(
        self,
        *args: Any,
        teacher: TeacherLike | list[TeacherLike] | None = None,
        teacher_processing_class: PreTrainedTokenizerBase | None = None,
        teacher_weights: Sequence[float] | None = None,
        layer_map: LayerMap | None = None,
        pruning: AlterationLike | None = None,
        quantization: AlterationLike | None = None,
        clustering: AlterationLike | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if teacher is not None:
            given = teacher if isinstance(teacher, list) else [teacher]
            teachers = [self._find_teacher(one, teacher_processing_class) for one in given]
            lesson = Lesson(
                teachers,
                teacher_weights,
                losses=getattr(self.args, "losses", None) or DEFAULT_LOSSES,
                layer_map=layer_map if layer_map is not None else getattr(self.args, "layer_map", "uniform"),
                columns=getattr(self.train_dataset, "column_names", None),
                own_loss=self.compute_loss_func is not None,
            )
            self._add_distiller(build_distiller(self.model, self.processing_class, lesson))
        self.add_alterations({"pruning": pruning, "quantization": quantization, "clustering": clustering})

    def _find_teacher(self, teacher: TeacherLike, processor: Any) -> tuple[PreTrainedModel | Teacher, Any]:
        """Return a teacher that was given, or load the one that was named, with its tokenizer or image processor."""
        if isinstance(teacher, tuple):
            return teacher
        if not isinstance(teacher, (str, Path)):
            return teacher, processor
        if is_cache(teacher):
            cached = CachedTeacher(Path(teacher), self.model.config, self.train_dataset)
            self.train_dataset = cached.train_dataset  # with the column that says where the answers stand
            return cached, None
        return load_teacher(str(teacher), self.model)

    def _add_distiller(self, distiller: Distiller) -> None:
        self.distiller = distiller
        distiller.label_smoothing = self.args.label_smoothing_factor
        distiller.teacher.to(self.args.device)
        self.distiller.modules.to(self.args.device)
        self.add_callback(DistillerCallback(self.distiller))
        self._signature_columns = None  # found again at need, with the teacher's
        # This class averages over the accumulated batches itself; the Trainer's division is undone in `_scale`.
        self.model_accepts_loss_kwargs = False
        self._trainer_divides = self.compute_loss_func is None or hasattr(type(self), "loss_is_scaled_for_ga")
        self.loss_is_scaled_for_ga = False

    # What the Trainer feeds to the models.

    def _set_signature_columns_if_needed(self) -> None:
        """Keep the columns that either model takes: a DistilBERT student must not starve a BERT teacher."""
        if self._signature_columns is None:
            super()._set_signature_columns_if_needed()
            columns: list[str] = list(self._signature_columns or ())
            self._student_columns = frozenset(columns)
            theirs = self.distiller.teacher_columns() if self.distiller is not None else []
            self._signature_columns = columns + [name for name in (*theirs, *self.raw_columns) if name not in columns]

    def _for_student(self, inputs: dict[str, Any]) -> dict[str, Any]:
        self._set_signature_columns_if_needed()
        if self.distiller is not None:
            inputs = self.distiller.task.prepare_inputs(inputs, self.distiller.student.model.config)
        return {name: value for name, value in inputs.items() if name in self._student_columns}

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        if not getattr(self.args, "length_grouping", False):
            return (
                super()._get_train_sampler(train_dataset) if train_dataset is not None else super()._get_train_sampler()
            )
        rows = train_dataset if train_dataset is not None else self.train_dataset
        if self.model.main_input_name not in rows.column_names or self.model.main_input_name == "pixel_values":
            lengths = [1] * len(rows)  # images are all of one size
        else:
            lengths = [len(ids) for ids in rows[self.model.main_input_name]]
        seed = self.args.data_seed if self.args.data_seed is not None else self.args.seed
        step = self.args.train_batch_size * self.args.world_size * self.args.gradient_accumulation_steps
        self._grouped = LengthGroupedSampler(lengths, step, seed)
        return self._grouped

    def get_train_dataloader(self) -> DataLoader:
        """Build the loader, with the sampler where accelerate finds it to tell it the epoch, also of a resumed run."""
        loader = super().get_train_dataloader()
        if self._grouped is not None:
            loader.set_sampler(self._grouped)
        return loader

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device) -> tuple[list, Any]:
        """Fetch the batches of one optimizer step and count what they hold, over all processes."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self.distiller is not None and batches:
            self.distiller.count(batches, self.accelerator)
        return batches, items

    # The loss.

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the weighted sum of the losses while training with a teacher, the task's own loss otherwise."""
        if self.distiller is None:
            return super().compute_loss(
                model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch
            )
        if not model.training:
            own = self._for_student(inputs)
            return super().compute_loss(
                model, own, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch
            )
        loss, outputs = self._distillation_loss(self.distiller, model, inputs)
        return (loss, outputs) if return_outputs else loss

    def _distillation_loss(self, distiller: Distiller, model: nn.Module, inputs: dict[str, Any]) -> tuple[Tensor, Any]:
        teacher = distiller.teacher.ask(inputs)
        task_mean, outputs, student = self._ask_student(distiller, model, inputs)
        return distiller.loss(inputs, student, teacher, task_mean) * self._scale, outputs

    def _ask_student(
        self, distiller: Distiller, model: nn.Module, inputs: dict[str, Any]
    ) -> tuple[Tensor | None, Any, Answer]:
        """Return the student's mean loss on its labels, if that is asked and can be had, its outputs and its answer."""
        listener, task = distiller.student, distiller.task
        own = {**self._for_student(inputs), **listener.options}
        labels = set(task.label_columns) | set(self.label_names)
        with_labels = distiller.objective.task is not None and listener.head is None
        items = distiller.labels_in(inputs) if with_labels else None
        known = items is not None and bool(items > 0)
        mean = None
        with listener.listening():
            if known and not task.loss_is_ours(inputs):
                mean, outputs = super().compute_loss(model, own, return_outputs=True, num_items_in_batch=items)
                mean = mean.mean() / self._task_scale
            else:
                outputs = model(**{name: value for name, value in own.items() if name not in labels})
                mean = task.known_loss(outputs, inputs) if known else None
        return mean, outputs, listener.answer(outputs, inputs)

    @property
    def _scale(self) -> int:
        """What undoes the Trainer's division by accumulated batches and DDP's by processes."""
        return self.args.world_size * (self.current_gradient_accumulation_steps if self._trainer_divides else 1)

    @property
    def _task_scale(self) -> int:
        """What the Trainer multiplies the result of a `compute_loss_func` by, to average over the processes' items."""
        multiplies = self.compute_loss_func is not None and self.args.average_tokens_across_devices
        return self.args.world_size if multiplies else 1

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """Take a training step; with a teacher or alterations, stop at a loss that is NaN or infinite.

        Raises:
            NonFiniteLossError: It is; the last checkpoint with finite weights is named.
        """
        loss = super().training_step(model, inputs, *args, **kwargs)
        if (self.distiller is not None or self.alterations) and not torch.isfinite(loss):
            good = last_good_checkpoint(Path(self.args.output_dir))
            kept = f"The last good checkpoint is {good}." if good else "No checkpoint was saved before."
            raise NonFiniteLossError(
                f"The loss became {loss.item()} at step {self.state.global_step + 1}. {kept} "
                "Lower the learning rate or the losses' weights, or train without fp16."
            )
        return loss

    def prediction_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Predict with the student alone, on the columns that it takes."""
        return super().prediction_step(model, self._for_student(inputs) if self.distiller else inputs, *args, **kwargs)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log, with each loss's share of `loss` under `loss_NAME`."""
        if self.distiller is not None and "loss" in logs:
            logs |= self.distiller.averages(self.accelerator)
        super().log(logs, *args, **kwargs)

    # Optimizer and checkpoints: what is learned beside the student.

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Create the optimizer; it also trains the losses' projections.

        Raises:
            RequestError: An optimizer was passed in that lacks them.
        """
        passed_in = self.optimizer is not None
        optimizer = super().create_optimizer(*args, **kwargs)
        learned = list(self.distiller.modules.parameters()) if self.distiller is not None else []
        if learned:
            groups = [{"params": learned, "weight_decay": self.args.weight_decay}]
            fix = "choose losses without projections"
            add_to_optimizer(optimizer, groups, passed_in, "the losses' learned projections", fix)
        return optimizer

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        state = self.distiller.modules.state_dict() if self.distiller is not None else {}
        if state and self.args.should_save:
            save_file(
                {name: tensor.contiguous().cpu() for name, tensor in state.items()}, Path(output_dir, _OBJECTIVE_FILE)
            )

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and self.distiller is not None and self.distiller.modules.state_dict():
            self.distiller.modules.load_state_dict(load_file(Path(checkpoint, _OBJECTIVE_FILE)))


class CompressionTrainer(CompressionMixin, Trainer):
    """transformers' `Trainer` with a teacher, pruning, quantization and clustering; see `CompressionMixin`.

    Example:
        >>> trainer = CompressionTrainer(student, args, train_dataset=rows, teacher="my/bert")  # doctest: +SKIP
    """
