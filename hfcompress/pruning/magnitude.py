"""Magnitude pruning: the weights nearest to zero are set to zero, at once or step by step while training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from torch import Tensor, nn

from hfcompress.config import checked_by, gather, option
from hfcompress.errors import Fault, RequestError
from hfcompress.modeling.linear import LINEAR, in_shape_of_weight, matrix, weight_of
from hfcompress.modeling.targets import TargetOptions, refuse_nan
from hfcompress.pruning.masks import Masks, value_of
from hfcompress.pruning.schedules import Course, SparsitySchedule
from hfcompress.pruning.scores import lowest
from hfcompress.pruning.statistics import check_pattern, read_pattern, smallest
from hfcompress.registry import register
from hfcompress.training.alteration import Length
from hfcompress.training.altered_step import TrainingOptions, train_altered
from hfcompress.training.pruner import Pruner, PrunerConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from hfcompress.context import Context


@dataclass
class MagnitudeConfig(TargetOptions, TrainingOptions, SparsitySchedule, PrunerConfig):
    """Options of `magnitude`; with `train`, any TrainingArguments field can stand beside them."""

    pattern: Annotated[str | None, checked_by(read_pattern)] = option(
        None, help="N:M, such as 2:4: of M inputs in a row each output keeps at most N; either this or sparsity"
    )
    scope: Literal["local", "global"] = option(
        "local", help="compare weights within each matrix (local), or over all of them (global)"
    )
    train: bool = option(False, help="prune step by step while training, and not at once")

    def check(self) -> None:
        """Look across the fields.

        Raises:
            RequestError: Not exactly one of sparsity and pattern is given, the schedule or the losses do not fit
                together, or there are options of training without `train`; all faults.
        """
        if self.sparsity is not None and self.pattern is not None:
            problem = "sparsity or pattern decides what is removed, and both are given."
            raise RequestError(Fault("sparsity", problem, "Give one of them."))
        gather(lambda: SparsitySchedule.check(self), self.check_losses, self._check_train)

    def _check_train(self) -> None:
        """Refuse options that would do nothing."""
        if self.train:
            return
        for_training = [field for base in (SparsitySchedule, TrainingOptions) for field in fields(base)]
        idle = [f.name for f in for_training if f.name not in ("sparsity", "training")]
        idle = [name for name in idle if getattr(self, name) != getattr(MagnitudeConfig, name)]
        if idle or self.training:
            problem = f"only training uses {', '.join([*idle, *self.training])}, and train is not given."
            raise RequestError(Fault("train", problem, "Set train, or leave them out."))

    @property
    def final(self) -> float | None:
        """The sparsity in the end."""
        if self.pattern is None:
            return self.sparsity
        kept, of = read_pattern(self.pattern)
        return 1 - kept / of

    def targets(self, model: PreTrainedModel) -> dict[str, nn.Module]:
        """Return the modules whose weights are pruned, by name.

        Raises:
            RequestError: The filters match nothing, or the pattern does not divide the inputs of some modules.
            ModelError: Weights are NaN or infinite.
        """
        found = self.chosen(model, (*LINEAR, nn.Embedding))
        check_pattern(found, self.pattern)
        refuse_nan(found)
        return found

    def build(self, model: PreTrainedModel) -> MagnitudePruner:
        """Return the pruner that `CompressionTrainer(pruning=…)` works with."""
        self.targets(model)
        return MagnitudePruner(self)


@register("pruning", "magnitude", MagnitudeConfig)
def magnitude(model: PreTrainedModel, config: MagnitudeConfig, context: Context) -> PreTrainedModel:
    """Set the weights nearest to zero to zero, at once, or step by step in training.

    Han et al. 2015, "Learning both Weights and Connections for Efficient Neural Networks", arXiv 1506.02626; in
    training with the schedule of Zhu & Gupta 2017, arXiv 1710.01878. Of `n` weights exactly `round(sparsity · n)`
    become zero; of equal ones the first. The zeros alone save neither time nor bytes.

    Args:
        model: The model; changed in place.
        config: What is pruned, and how.
        context: Gives the data to train on.

    Raises:
        RequestError: The filters match nothing, the pattern does not fit a layer, or the schedule not the training.
        ModelError: Weights are NaN or infinite.
    """
    config._check_train()  # now that the options of training are there
    if config.train:
        return train_altered("pruning", model, config, context, "magnitude")
    modules = config.targets(model)
    with torch.no_grad():
        for name, stays in choose(modules, config, config.final or 0).items():
            weight_of(modules[name]).masked_fill_(~stays, 0)
    return model


@torch.no_grad()
def choose(
    modules: Mapping[str, nn.Module], config: MagnitudeConfig, sparsity: float, zeros_stay: bool = False
) -> dict[str, Tensor]:
    """Return which weights stay, by module, True in the shape of each weight.

    Args:
        modules: Whose weights are pruned.
        config: Says what is compared with what. With a pattern, only weights that it would remove are removed.
        sparsity: The share that is removed.
        zeros_stay: Remove all that is zero already, even if that is more.
    """
    sizes = {name: _sizes(module, config.pattern) for name, module in modules.items()}
    if config.scope == "local":
        return {name: ~_lowest(size.flatten(), sparsity, zeros_stay).view_as(size) for name, size in sizes.items()}
    removed = _lowest(torch.cat([size.flatten() for size in sizes.values()]), sparsity, zeros_stay)
    parts = removed.split([size.numel() for size in sizes.values()])
    return {name: ~part.view_as(size) for (name, size), part in zip(sizes.items(), parts, strict=True)}


def _lowest(sizes: Tensor, sparsity: float, zeros_stay: bool) -> Tensor:
    """Mark a share of the sizes `(weights,)`, from the lowest up; of equal ones the first."""
    count = round(sparsity * len(sizes))
    if zeros_stay:
        count = max(count, int((sizes == 0).sum()))
    return lowest(sizes, count)


def _sizes(module: nn.Module, pattern: str | None) -> Tensor:
    """Return the weights' absolute values; infinite where a pattern lets them stay."""
    if pattern is None:
        return weight_of(module).detach().abs().float()
    kept, of = read_pattern(pattern)
    sizes = matrix(module).abs().float()
    removable = smallest(sizes.unflatten(-1, (-1, of)), of - kept).flatten(-2)
    return in_shape_of_weight(module, sizes.masked_fill(~removable, torch.inf))


class MagnitudePruner(Pruner):
    """Masks the weights nearest to zero, ever more of them; see `magnitude`.

    Masked weights get no gradient; they keep their values below the mask, and can come back while the masks are still
    being decided. Weights that are zero when training begins stay zero, as in pruning again what was pruned.

    Args:
        config: What is pruned, and when.
    """

    def __init__(self, config: MagnitudeConfig) -> None:
        self.config = config
        self.learned = nn.ModuleDict()
        self._modules: dict[str, nn.Module] = {}
        self._masks: Masks
        self._course: Course
        self._sparsity = 0.0

    def attach(self, model: PreTrainedModel) -> None:
        """Mask the weights from now on; nothing is masked before the first step."""
        self._modules = self.config.targets(model)
        self._masks = Masks(model, [f"{name}.weight" for name in self._modules])

    def prepare(self, length: Length) -> None:
        """Lay the schedule over the training."""
        self._course = self.config.over(length)

    def set_step(self, step: int) -> None:
        """Decide the masks anew where the schedule says so."""
        if not self._masks.by_name or self._course.updates(step):
            self._set(choose(self._modules, self.config, self._course.at(step), zeros_stay=True))

    @property
    def sparsity(self) -> float:
        """The share of the weights that is masked now."""
        return self._sparsity

    @property
    def target(self) -> float | None:
        """The share that will be masked in the end."""
        return self.config.final

    def state(self) -> dict[str, Tensor]:
        """Return the masks by module."""
        return {name.removesuffix(".weight"): value_of(mask) for name, mask in self._masks.by_name.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on with the masks of a checkpoint.

        Raises:
            RequestError: They are of other weights.
        """
        if state and state.keys() != self._modules.keys():
            fix = "Give the options that the run began with, or begin anew in another folder."
            raise RequestError(Fault("pruning", "the checkpoint holds masks of other modules.", fix))
        self._set({name: mask.to(weight_of(self._modules[name]).device) for name, mask in state.items()})

    def finish(self) -> None:
        """Set what is masked to zero, and stop masking."""
        self._masks.apply()
        self._masks.remove()

    def _set(self, stays: Mapping[str, Tensor]) -> None:
        self._masks.by_name.clear()
        self._masks.by_name.update({f"{name}.weight": mask for name, mask in stays.items()})
        total = sum(mask.numel() for mask in stays.values())
        self._sparsity = 1 - sum(int(mask.sum()) for mask in stays.values()) / total if total else 0.0
