"""Pruning inside the Trainer: masks at each step, what is learned beside the model, checkpoints, the finished zeros."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hfcompress import registry
from hfcompress.config import parse
from hfcompress.errors import Fault, RequestError
from hfcompress.training.learned import add_to_optimizer, average_gradients, share_start
from hfcompress.training.pruner import Length, Pruner, PrunerConfig

PruningLike: TypeAlias = "PrunerConfig | Pruner | Mapping[str, Any]"
"""The config of a method that prunes in training, what it builds, or `{"method": "magnitude", "sparsity": 0.5}`."""

# What the mixins stand on is known only where they are mixed in; to the type checker it may have any attribute.
_Trainer: Any = object

_FILE = "pruning.safetensors"
"""Masks, scores and what the schedule remembers, in each checkpoint."""

_SETTLED = 1e-3
"""How near to the final sparsity an evaluation must be to be of the model that was asked for."""

_TRAINER_TAKES = ("teacher", "losses", "temperature", "alpha", "layer_map", "training")
"""Options of a recipe's step that the Trainer is given in its own way."""


class PruningMixin(_Trainer):
    """Prunes the model of a `Trainer` subclass while it is trained; without `pruning` it changes nothing.

    The masks of a step are set before its batches; evaluation is at the sparsity of the moment. Checkpoints hold the
    dense weights and, in `pruning.safetensors`, all that decides the masks. When `train()` returns, what was masked is
    zero.

    With `load_best_model_at_end` the best model is looked for among those that have reached the final sparsity.
    """

    pruner: Pruner | None = None
    _pruning: PrunerCallback
    _finished = False
    _has_removed = False
    _makes_optimizer = True
    optimizer: Any
    lr_scheduler: Any

    def add_pruning(self, pruning: PruningLike) -> None:
        """Prune from the next training on.

        Raises:
            RequestError: The method does not prune in training, or does not fit model or arguments.
        """
        if self.model_init is not None:
            problem = "needs the model at once, and model_init makes it later."
            raise RequestError(Fault("pruning", problem, "Pass model= in its place."))
        if self.args.load_best_model_at_end and self.args.save_only_model:
            problem = "with save_only_model, checkpoints lack the masks that the best model would need."
            raise RequestError(Fault("load_best_model_at_end", problem, "Leave out one of the two."))
        self.pruner = build_pruner(pruning, self.model)
        self._attach(self.pruner)
        self._pruning = PrunerCallback(self.pruner)
        self.add_callback(self._pruning)

    def _attach(self, pruner: Pruner) -> None:
        pruner.attach(self.accelerator.unwrap_model(self.model))
        pruner.learned.to(self.args.device)
        self._finished = False

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train; what was masked in the end is zero afterwards.

        Raises:
            RequestError: A checkpoint is to be taken up by a trainer that has removed heads or neurons: the
                checkpoint's weights do not fit its model any more.
        """
        if self.pruner is not None and self._finished:
            if self._has_removed and (kwargs.get("resume_from_checkpoint") or (args and args[0])):
                problem = "this trainer has removed parts of its model already, and the checkpoint still has them."
                fix = "Build a new trainer with the model as it was before pruning, and resume with that."
                raise RequestError(Fault("resume_from_checkpoint", problem, fix))
            self._attach(self.pruner)
            if self._makes_optimizer:  # the last one trained scores and units that are not there any more
                self.optimizer = self.lr_scheduler = None
        self._makes_optimizer = self.optimizer is None
        result = super().train(*args, **kwargs)
        if self.pruner is not None:
            before = self.model.num_parameters()
            self.pruner.finish()
            self._finished, self._has_removed = True, self.model.num_parameters() < before
        return result

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """Take a training step; the pruner's penalty is added once in each optimizer step."""
        loss: Tensor = super().training_step(model, inputs, *args, **kwargs)
        if self.pruner is not None and self._pruning.penalty_due:
            self._pruning.penalty_due = False
            penalty = self.pruner.penalty()
            if penalty is not None:
                self.accelerator.backward(penalty)
                loss = loss + penalty.detach().to(loss.device)
        return loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log, with the sparsity beside a loss."""
        if self.pruner is not None and self.is_in_train and any(name.endswith("loss") for name in logs):
            logs = {**logs, "sparsity": round(self.pruner.sparsity, 4)}
        super().log(logs, *args, **kwargs)

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Create the optimizer; it also trains what the pruner learns.

        Raises:
            RequestError: An optimizer was passed in that lacks it.
        """
        passed_in = self.optimizer is not None
        optimizer: torch.optim.Optimizer = super().create_optimizer(*args, **kwargs)
        groups = self.pruner.parameter_groups() if self.pruner is not None else []
        add_to_optimizer(optimizer, groups, passed_in, "the scores that decide what is pruned", "add them to it")
        return optimizer

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.pruner is not None and self.args.should_save:
            state = {name: tensor.detach().contiguous().cpu() for name, tensor in self.pruner.state().items()}
            save_file(state, Path(output_dir, _FILE))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if self.pruner is not None:
            self._pruning.checkpoint = checkpoint

    def _determine_best_metric(self, *args: Any, **kwargs: Any) -> bool:
        """Pass over evaluations of models that are not yet as sparse as asked."""
        target = self.pruner.target if self.pruner is not None else None
        if self.pruner is not None and target is not None and self.pruner.sparsity < target - _SETTLED:
            return False
        found: bool = super()._determine_best_metric(*args, **kwargs)
        return found

    def _load_best_model(self) -> None:
        super()._load_best_model()
        if self.pruner is not None:
            self.pruner.load_state(read_state(self.state.best_model_checkpoint))


class PrunerCallback(TrainerCallback):
    """Tells a pruner how far the training is, and does for what it learns what the Trainer does for the model.

    Args:
        pruner: The pruner.

    Attributes:
        checkpoint: What training goes on from, if anything.
        penalty_due: Whether the penalty of the present optimizer step is still to be added.
    """

    def __init__(self, pruner: Pruner) -> None:
        self.pruner = pruner
        self.checkpoint: str | None = None
        self.penalty_due = False

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: Any = None,
        **_: Any,
    ) -> None:
        """Lay the schedule over the training, and take up what the checkpoint holds."""
        per_epoch = state.max_steps
        if hasattr(train_dataloader, "__len__"):
            per_epoch = max(1, math.ceil(len(train_dataloader) / args.gradient_accumulation_steps))
        self.pruner.prepare(Length(state.max_steps, per_epoch))
        if self.checkpoint is not None:
            self.pruner.load_state(read_state(self.checkpoint))
        share_start(self.pruner.learned.parameters(), args)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Set the masks of the step."""
        self.pruner.set_step(state.global_step)
        self.penalty_due = True

    def on_pre_optimizer_step(self, args: TrainingArguments, *_: Any, **__: Any) -> None:
        """Average the gradients over the processes, and clip them by themselves: scores are of another size."""
        learned = list(self.pruner.learned.parameters())
        average_gradients(learned, args)
        if learned and args.max_grad_norm:
            clip_grad_norm_(learned, args.max_grad_norm)

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Clear the gradients: the Trainer clears the model's alone."""
        self.pruner.learned.zero_grad()


def build_pruner(pruning: PruningLike, model: PreTrainedModel) -> Pruner:
    """Return the pruner that was asked for.

    Raises:
        RequestError: There is no such method, it does not prune in training, or its options do not fit.
    """
    if isinstance(pruning, Pruner):
        return pruning
    if isinstance(pruning, Mapping):
        pruning = _read(dict(pruning))
    if not isinstance(pruning, PrunerConfig):
        problem = f"takes the config of a method that prunes in training, got {type(pruning).__name__}."
        raise RequestError(Fault("pruning", problem, f"Methods: {', '.join(_methods())}."))
    given = [name for name in _TRAINER_TAKES if getattr(pruning, name, None) not in (None, {}, "uniform")]
    if given:
        fix = "Pass teacher= and layer_map= to the Trainer, and the losses in its arguments."
        raise RequestError(Fault("pruning", f"{', '.join(given)} would do nothing here.", fix))
    return pruning.build(model)


def _read(options: dict[str, Any]) -> Any:
    """Read `{"method": NAME, ...}`."""
    known = _methods()
    name = options.pop("method", None)
    if name is None:
        raise RequestError(Fault("pruning.method", "is missing.", f"Allowed: {', '.join(known)}."))
    method = registry.find("pruning", name, "pruning.method")
    if name not in known:
        problem = f"'{name}' does not prune in training."
        raise RequestError(Fault("pruning.method", problem, f"Those that do: {', '.join(known)}."))
    if any(field.name == "train" for field in dataclasses.fields(method.config)):
        options["train"] = True
    return parse(method.config, options, "pruning")


def _methods() -> list[str]:
    """Return the names of the methods that prune in training."""
    return [name for name, method in registry.methods("pruning").items() if issubclass(method.config, PrunerConfig)]


def read_state(checkpoint: str) -> dict[str, Tensor]:
    """Read what a checkpoint holds of the pruning.

    Raises:
        RequestError: It holds nothing of it.
    """
    path = Path(checkpoint, _FILE)
    if not path.is_file():
        problem = f"the checkpoint {checkpoint} was made without pruning: {_FILE} is missing."
        raise RequestError(Fault("pruning", problem, "Begin anew in another folder, or train on without pruning."))
    state: dict[str, Tensor] = load_file(path)
    return state
