"""Movement pruning: what training moves towards zero is removed; single weights, blocks, heads and neurons."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Interval, Len

from hfcompress.config import gather, option
from hfcompress.errors import Fault, RequestError
from hfcompress.modeling.targets import TargetOptions, refuse_nan
from hfcompress.pruning.movement_pruner import MovementPruner
from hfcompress.pruning.schedules import SparsitySchedule
from hfcompress.pruning.scored import Scored, ScoredUnits, modules_of, scored_blocks, scored_units
from hfcompress.registry import register
from hfcompress.training.altered_step import TrainingOptions, train_altered
from hfcompress.training.pruner import PrunerConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from hfcompress.context import Context
    from hfcompress.modeling.groups import Kind

Structure = Literal["none", "block", "heads", "neurons", "heads_and_neurons", "block_and_neurons"]

_UNITS: dict[str, tuple[Kind, ...]] = {
    "heads": ("heads",),
    "neurons": ("neurons",),
    "heads_and_neurons": ("heads", "neurons"),
    "block_and_neurons": ("neurons",),
}
_BLOCK = [32, 32]


@dataclass
class MovementConfig(TargetOptions, TrainingOptions, SparsitySchedule, PrunerConfig):
    """Options of `movement`; any TrainingArguments field can stand beside them."""

    every: Annotated[int, Ge(1)] = option(1, help="steps between two choices of what is masked")
    variant: Literal["hard", "soft"] = option(
        "hard", help="hard: as many as sparsity says, the lowest scores; soft: all scores below a threshold"
    )
    structure: Structure = option(
        "none",
        help="what has a score: each weight (none), block, heads, neurons, heads_and_neurons, or block_and_neurons "
        "(blocks elsewhere, neurons in feed-forward networks)",
    )
    block: Annotated[list[Annotated[int, Ge(1)]], Len(2, 2)] | None = option(
        None, help="outputs and inputs of a block (default: 32 32)"
    )
    scope: Literal["local", "global"] = option(
        "local", help="with hard: compare scores within each matrix or layer (local), or all of a kind (global)"
    )
    threshold: Annotated[float, Interval(gt=0, lt=1)] = option(
        0.1, help="with soft: what the sigmoid of a score must exceed to stay"
    )
    regularization: Annotated[float, Ge(0)] = option(
        100.0, help="with soft: weight of the penalty on scores, reached along the schedule; more leaves fewer weights"
    )
    score_learning_rate: Annotated[float, Gt(0)] = option(1e-2, help="learning rate of the scores")
    init: Literal["magnitude", "zero"] = option(
        "magnitude", help="what scores begin with: the weights' sizes in parts of their mean, or 0 as in the paper"
    )
    remove_empty: bool = option(
        True, help="with weights and blocks: in the end remove heads and neurons that are left without weights"
    )

    def check(self) -> None:
        """Look across the fields.

        Raises:
            RequestError: Options contradict each other, or would do nothing; all faults.
        """
        schedule = partial(SparsitySchedule.check, self) if self.variant == "hard" else self._check_shares
        gather(schedule, self.check_losses, self._check_idle)

    def _check_idle(self) -> None:
        """Refuse options that would do nothing."""
        soft = {
            "sparsity": "training decides it; regularization and threshold say how far",
            "initial_sparsity": "training decides it",
            "scope": "each score is compared with the threshold",
        }
        hard = dict.fromkeys(("threshold", "regularization"), "sparsity decides")
        idle = hard if self.variant == "hard" else soft
        faults = [
            Fault(name, f"does nothing with variant {self.variant}: {why}.", "Leave it out.")
            for name, why in idle.items()
            if getattr(self, name) != getattr(MovementConfig, name)
        ]
        if self.block is not None and not self.structure.startswith("block"):
            fix = "Set structure to block or block_and_neurons, or leave it out."
            faults.append(Fault("block", f"does nothing with structure {self.structure}.", fix))
        if faults:
            raise RequestError(*faults)

    @property
    def final(self) -> float | None:
        """The sparsity in the end; None where training decides it."""
        return self.sparsity if self.variant == "hard" else None

    def scored(self, model: PreTrainedModel) -> list[Scored]:
        """Return what has scores in a model.

        Raises:
            RequestError: The filters match nothing, or blocks do not divide a matrix.
            ModelError: Weights are NaN or infinite, or the architecture has no such units.
        """
        found = self.chosen(model)
        refuse_nan(found)
        kinds = _UNITS.get(self.structure, ())
        units = scored_units(model, kinds, found) if kinds else []
        if kinds and self.structure != "block_and_neurons":
            return units
        whole = {name for one in units if isinstance(one, ScoredUnits) for name in modules_of(one.group)}
        matrices = {name: module for name, module in found.items() if name not in whole}
        rows, columns = (1, 1) if self.structure == "none" else self.block or _BLOCK
        return [*scored_blocks(matrices, rows, columns), *units]

    def build(self, model: PreTrainedModel) -> MovementPruner:
        """Return the pruner that `CompressionTrainer(pruning=…)` works with."""
        self.scored(model)
        return MovementPruner(self)


@register("pruning", "movement", MovementConfig)
def movement(model: PreTrainedModel, config: MovementConfig, context: Context) -> PreTrainedModel:
    """Learn scores beside the weights while fine-tuning, and remove what moves towards zero.

    Sanh, Wolf & Rush 2020, "Movement Pruning: Adaptive Sparsity by Fine-Tuning", arXiv 2005.07683. The model computes
    with `W' = W ⊙ M(S)`; the gradient passes straight through `M` (equation 2):

        ∂L/∂S_ij = ∂L/∂W'_ij · W_ij

    so that scores grow where a weight moves away from zero, also below the mask. `hard` (equation 1): `M` keeps the
    top `1 − sparsity` of the scores. `soft` (section 4): `M = (σ(S) > threshold)`, and the loss grows by
    `regularization · mean(σ(S))`, the mean being over the weights; how sparse the model becomes is left to training.

    Scores begin with `|W_ij| / mean |W|`, so that what is removed first is small, and training moves them from there.
    With `init: zero`, the paper's, the first weights to go are as good as drawn at random; that takes a longer training
    to make up for than most fine-tunings are.

    Blocks, heads and neurons (Lagunas et al. 2021, "Block Pruning For Faster Transformers", arXiv 2109.04838) have one
    score together, whose gradient is the sum of that of their weights, of heads and neurons of those that read them. A
    head or neuron is masked there: the model answers as if it were gone, and its score still learns what bringing it
    back would do (masked where it is given too, every gradient would be 0). In the end heads and neurons are removed in
    fact. The zeros of weights and blocks save neither time nor bytes, but for the heads and neurons that they leave
    empty: an output of theirs without weights loses its bias too, and what nothing goes through any more is removed.

    The masks follow the scores to the end; in the cool-down only the sparsity (or the penalty's weight) is constant.
    Of `n` scores exactly `round(sparsity · n)` are masked in each matrix or group (`local`), or in all of a kind
    (`global`); of equal scores those of smaller weights.

    Args:
        model: The model; changed in place.
        config: What is pruned, and how.
        context: Gives the data to train on.

    Raises:
        RequestError: The config does not fit the model, or the schedule the training.
        ModelError: Weights are NaN or infinite, or the architecture has no such units.
    """
    return train_altered("pruning", model, config, context, "movement")
