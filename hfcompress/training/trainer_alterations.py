"""Altering a model inside the Trainer (pruning, fewer bits, shared weights): steps, what is learned, checkpoints."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hfcompress import registry
from hfcompress.config import parse
from hfcompress.errors import Fault, RequestError
from hfcompress.training.alteration import Alteration, AlterationConfig, Length
from hfcompress.training.learned import add_to_optimizer, average_gradients, share_start

Kind: TypeAlias = Literal["pruning", "quantization", "clustering"]
"""The families whose methods may alter a model while it is trained: the Trainer's arguments are called so."""

AlterationLike: TypeAlias = "AlterationConfig | Alteration | Mapping[str, Any]"
"""The config of a method that works in training, what it builds, or `{"method": "magnitude", "sparsity": 0.5}`."""

# What the mixins stand on is known only where they are mixed in; to the type checker it may have any attribute.
_Trainer: Any = object

_TRAINER_TAKES = ("teacher", "losses", "temperature", "alpha", "layer_map", "training")
"""Options of a recipe's step that the Trainer is given in its own way."""

_DOES = {
    "pruning": ("prunes", "prune"),
    "quantization": ("quantizes", "quantize"),
    "clustering": ("shares weights", "share weights"),
}
_LEARNED = {
    "pruning": "the scores that decide what is pruned",
    "quantization": "the ranges of what is rounded",
    "clustering": "the values that weights share",
}


class AlterationMixin(_Trainer):
    """Alters the model of a `Trainer` subclass while it is trained; without alterations it changes nothing.

    What a step computes with is set before its batches; evaluation is of the model as it is at that moment. Checkpoints
    hold the parameters as they are and, in `pruning.safetensors` and the like, all that decides the alteration. When
    `train()` returns, it is true of the model's parameters.

    With `load_best_model_at_end` the best model is looked for among those that are what was asked for, such as at the
    final sparsity.
    """

    alterations: Mapping[str, Alteration] = {}
    _callbacks_of: Mapping[str, AlterationCallback] = {}
    _finished = False
    _has_removed = False
    _makes_optimizer = True
    optimizer: Any
    lr_scheduler: Any

    @property
    def pruner(self) -> Any:
        """What prunes the model; None where nothing does."""
        return self.alterations.get("pruning")

    def add_alterations(self, given: Mapping[Kind, AlterationLike | None]) -> None:
        """Alter the model from the next training on.

        Raises:
            RequestError: A method does not work in training, or does not fit model or arguments.
        """
        chosen = {kind: one for kind, one in given.items() if one is not None}
        for kind in chosen:
            if self.model_init is not None:
                problem = "needs the model at once, and model_init makes it later."
                raise RequestError(Fault(kind, problem, "Pass model= in its place."))
            if self.args.load_best_model_at_end and self.args.save_only_model:
                problem = "with save_only_model, checkpoints lack what the best model would need."
                raise RequestError(Fault("load_best_model_at_end", problem, "Leave out one of the two."))
        self.alterations = {kind: build_alteration(kind, one, self.model) for kind, one in chosen.items()}
        self._callbacks_of = {kind: AlterationCallback(kind, one) for kind, one in self.alterations.items()}
        self._attach()
        for callback in self._callbacks_of.values():
            self.add_callback(callback)

    def _attach(self) -> None:
        for alteration in self.alterations.values():
            alteration.attach(self.accelerator.unwrap_model(self.model))
            alteration.learned.to(self.args.device)
        self._finished = False

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train; what was altered in the end is true of the parameters afterwards.

        Raises:
            RequestError: A checkpoint is to be taken up by a trainer that has removed heads or neurons: the
                checkpoint's weights do not fit its model any more.
        """
        if self.alterations and self._finished:
            if self._has_removed and (kwargs.get("resume_from_checkpoint") or (args and args[0])):
                problem = "this trainer has removed parts of its model already, and the checkpoint still has them."
                fix = "Build a new trainer with the model as it was before pruning, and resume with that."
                raise RequestError(Fault("resume_from_checkpoint", problem, fix))
            self._attach()
            if self._makes_optimizer:  # the last one trained what is not there any more
                self.optimizer = self.lr_scheduler = None
        self._makes_optimizer = self.optimizer is None
        result = super().train(*args, **kwargs)
        if self.alterations:
            before = self.model.num_parameters()
            for alteration in reversed(list(self.alterations.values())):
                alteration.finish()
            self._finished, self._has_removed = True, self.model.num_parameters() < before
        return result

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """Take a training step; penalties are added once in each optimizer step."""
        loss: Tensor = super().training_step(model, inputs, *args, **kwargs)
        for callback in self._callbacks_of.values():
            penalty = callback.alteration.penalty() if callback.penalty_due else None
            callback.penalty_due = False
            if penalty is not None:
                self.accelerator.backward(penalty)
                loss = loss + penalty.detach().to(loss.device)
        return loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log, with what alterations say beside a loss."""
        if self.is_in_train and any(name.endswith("loss") for name in logs):
            for alteration in self.alterations.values():
                logs = {**logs, **alteration.logs()}
        super().log(logs, *args, **kwargs)

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Create the optimizer; it also trains what alterations learn.

        Raises:
            RequestError: An optimizer was passed in that lacks it.
        """
        passed_in = self.optimizer is not None
        optimizer: torch.optim.Optimizer = super().create_optimizer(*args, **kwargs)
        for kind, alteration in self.alterations.items():
            what = _LEARNED[kind]
            add_to_optimizer(optimizer, alteration.parameter_groups(), passed_in, what, "add them to it")
        return optimizer

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        for kind, alteration in self.alterations.items():
            if self.args.should_save:
                state = {name: tensor.detach().contiguous().cpu() for name, tensor in alteration.state().items()}
                save_file(state, Path(output_dir, _file(kind)))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        for callback in self._callbacks_of.values():
            callback.checkpoint = checkpoint

    def _determine_best_metric(self, *args: Any, **kwargs: Any) -> bool:
        """Pass over evaluations of models that are not yet what was asked for."""
        if not all(alteration.settled for alteration in self.alterations.values()):
            return False
        found: bool = super()._determine_best_metric(*args, **kwargs)
        return found

    def _load_best_model(self) -> None:
        super()._load_best_model()
        for kind, alteration in self.alterations.items():
            alteration.load_state(read_state(self.state.best_model_checkpoint, kind))


class AlterationCallback(TrainerCallback):
    """Tells an alteration how far the training is, and does for what it learns what the Trainer does for the model.

    Args:
        kind: What it is.
        alteration: The alteration.

    Attributes:
        checkpoint: What training goes on from, if anything.
        penalty_due: Whether the penalty of the present optimizer step is still to be added.
    """

    def __init__(self, kind: str, alteration: Alteration) -> None:
        self.kind = kind
        self.alteration = alteration
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
        """Tell the length of the training, and take up what the checkpoint holds."""
        per_epoch = state.max_steps
        if hasattr(train_dataloader, "__len__"):
            per_epoch = max(1, math.ceil(len(train_dataloader) / args.gradient_accumulation_steps))
        self.alteration.prepare(Length(state.max_steps, per_epoch))
        if self.checkpoint is not None:
            self.alteration.load_state(read_state(self.checkpoint, self.kind))
        share_start(self.alteration.learned.parameters(), args)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Set what the step computes with."""
        self.alteration.set_step(state.global_step)
        self.penalty_due = True

    def on_pre_optimizer_step(self, args: TrainingArguments, *_: Any, **__: Any) -> None:
        """Average the gradients over the processes, and clip them by themselves: they are of another size."""
        learned = list(self.alteration.learned.parameters())
        average_gradients(learned, args)
        if learned and args.max_grad_norm:
            clip_grad_norm_(learned, args.max_grad_norm)

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Clear the gradients: the Trainer clears the model's alone."""
        self.alteration.learned.zero_grad()


def build_alteration(kind: Kind, given: AlterationLike, model: PreTrainedModel) -> Alteration:
    """Return the alteration that was asked for.

    Raises:
        RequestError: There is no such method, it does not work in training, or its options do not fit.
    """
    if isinstance(given, Alteration):
        return given
    if isinstance(given, Mapping):
        given = _read(kind, dict(given))
    if not isinstance(given, AlterationConfig):
        problem = f"takes the config of a method that {_DOES[kind][0]} in training, got {type(given).__name__}."
        raise RequestError(Fault(kind, problem, f"Methods: {', '.join(_methods(kind))}."))
    extra = [name for name in _TRAINER_TAKES if getattr(given, name, None) not in (None, {}, "uniform")]
    if extra:
        fix = "Pass teacher= and layer_map= to the Trainer, and the losses in its arguments."
        raise RequestError(Fault(kind, f"{', '.join(extra)} would do nothing here.", fix))
    return given.build(model)


def _read(kind: Kind, options: dict[str, Any]) -> Any:
    """Read `{"method": NAME, ...}`."""
    known = _methods(kind)
    name = options.pop("method", None)
    if name is None:
        raise RequestError(Fault(f"{kind}.method", "is missing.", f"Allowed: {', '.join(known)}."))
    method = registry.find(kind, name, f"{kind}.method")
    if name not in known:
        problem = f"'{name}' does not {_DOES[kind][1]} in training."
        raise RequestError(Fault(f"{kind}.method", problem, f"Those that do: {', '.join(known)}."))
    if any(field.name == "train" for field in dataclasses.fields(method.config)):
        options["train"] = True
    return parse(method.config, options, kind)


def _methods(kind: Kind) -> list[str]:
    """Return the names of the methods that work in training."""
    return [name for name, method in registry.methods(kind).items() if issubclass(method.config, AlterationConfig)]


def _file(kind: str) -> str:
    """Return the file in a checkpoint that holds what decides an alteration."""
    return f"{kind}.safetensors"


def read_state(checkpoint: str, kind: str) -> dict[str, Tensor]:
    """Read what a checkpoint holds of an alteration.

    Raises:
        RequestError: It holds nothing of it.
    """
    path = Path(checkpoint, _file(kind))
    if not path.is_file():
        problem = f"the checkpoint {checkpoint} was made without {kind}: {_file(kind)} is missing."
        raise RequestError(Fault(kind, problem, f"Begin anew in another folder, or train on without {kind}."))
    state: dict[str, Tensor] = load_file(path)
    return state
