"""Movement pruning at work: scores that are learned beside the weights, and the masks that follow them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hfcompress.errors import Fault, RequestError
from hfcompress.modeling.masking import masked
from hfcompress.modeling.surgery import keep_units
from hfcompress.pruning.masks import Masks
from hfcompress.pruning.schedules import Course
from hfcompress.pruning.scored import Scored, ScoredBlocks, ScoredUnits, groups_in
from hfcompress.pruning.scores import lowest, straight_through
from hfcompress.pruning.silent import remove_silent
from hfcompress.training.alteration import Length
from hfcompress.training.pruner import Pruner

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from hfcompress.pruning.movement import MovementConfig


class MovementPruner(Pruner):
    """Learns scores, and masks what has the lowest; see `movement`.

    Args:
        config: What is pruned, and how.
    """

    def __init__(self, config: MovementConfig) -> None:
        self.config = config
        self.learned = nn.ModuleDict()
        self._scored: list[Scored] = []
        self._scores: dict[str, nn.Parameter] = {}
        self._stays: dict[str, Tensor] = {}
        self._course: Course
        self._strength = 0.0
        self._model: PreTrainedModel
        self._masks: Masks
        self._silenced = ExitStack()

    # What the model computes with.

    def attach(self, model: PreTrainedModel) -> None:
        """Mask what the scores say from now on; nothing is masked before the first step."""
        self._model, self._scored = model, self.config.scored(model)
        sizes = {one.name: one.sizes() for one in self._scored}
        begin = torch.zeros_like if self.config.init == "zero" else _relative
        self._scores = {name: nn.Parameter(begin(size)) for name, size in sizes.items()}
        self._stays = {name: torch.ones_like(size, dtype=torch.bool) for name, size in sizes.items()}
        self.learned["scores"] = nn.ParameterList(self._scores.values())
        blocks = [one for one in self._scored if isinstance(one, ScoredBlocks)]
        self._with_bias = self._removable(blocks)
        biases = [f"{one.name}.bias" for one in self._with_bias]
        self._masks = Masks(model, [*(f"{one.name}.weight" for one in blocks), *biases])
        for one in blocks:
            self._masks.by_name[f"{one.name}.weight"] = partial(self._weight_mask, one)
        units = [one.group for one in self._scored if isinstance(one, ScoredUnits)]
        self._silenced.enter_context(masked(model, units, _UnitMasks(self, [group.name for group in units])))

    def _removable(self, blocks: list[ScoredBlocks]) -> list[ScoredBlocks]:
        """Return the matrices that give heads and neurons: there an output without weights loses its bias too.

        Otherwise a neuron without weights would be a constant, and could not be removed.
        """
        if not self.config.remove_empty:
            return []
        writers = {channels.module for group in groups_in(self._model) for channels in group.writers}
        return [one for one in blocks if one.name in writers and one.module.bias is not None]

    def mask(self, name: str) -> Tensor:
        """Return what the weights behind each score are multiplied by; its gradient goes to the scores."""
        return straight_through(self._scores[name], self._stays[name])

    def _weight_mask(self, blocks: ScoredBlocks) -> Tensor:
        return blocks.spread(self.mask(blocks.name))

    # What is masked when.

    def prepare(self, length: Length) -> None:
        """Lay the schedule over the training; with `soft` it is that of the penalty's weight."""
        course = self.config.over(length)
        soft = self.config.variant == "soft"
        self._course = replace(course, final=self.config.regularization) if soft else course

    def set_step(self, step: int) -> None:
        """Decide the masks anew; `one_shot` only does when the pruning begins."""
        now = self._course.at(step)
        once = self.config.schedule == "one_shot" and self.config.variant == "hard"
        due = step == 0 or self._course.updates(step) or (step % self.config.every == 0 and not once)
        if self.config.variant == "soft":
            self._strength = now
        if due:
            self._decide(now)

    @torch.no_grad()
    def _decide(self, sparsity: float) -> None:
        if self.config.variant == "soft":
            stays = {name: scores.sigmoid() > self.config.threshold for name, scores in self._scores.items()}
            self._set(stays)
            return
        for together in self._compared():
            scores = torch.cat([self._scores[one.name].flatten() for one in together])
            sizes = partial(_sizes, together)
            parts = lowest(scores, round(sparsity * len(scores)), sizes).split(
                [self._scores[one.name].numel() for one in together]
            )
            for one, part in zip(together, parts, strict=True):
                self._stays[one.name] = ~part.view(self._scores[one.name].shape)
        self._set(self._stays)

    def _compared(self) -> list[list[Scored]]:
        """Return what is compared with each other."""
        if self.config.scope == "local":
            return [[one] for one in self._scored]
        kinds = dict.fromkeys(one.kind for one in self._scored)
        return [[one for one in self._scored if one.kind == kind] for kind in kinds]

    def _set(self, stays: dict[str, Tensor]) -> None:
        self._stays = stays
        for one in self._with_bias:
            self._masks.by_name[f"{one.name}.bias"] = one.outputs_left(stays[one.name])

    # What is learned.

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the scores, with a learning rate of their own and without weight decay."""
        scores = list(self._scores.values())
        return [{"params": scores, "lr": self.config.score_learning_rate, "weight_decay": 0.0}]

    def penalty(self) -> Tensor | None:
        """Return `regularization · mean(σ(S))` with `soft`, the mean over the weights; None with `hard`."""
        if self.config.variant == "hard":
            return None
        kept = [one.weights * self._scores[one.name].sigmoid().sum() for one in self._scored]
        return self._strength * torch.stack(kept).sum() / self._weights

    @property
    def _weights(self) -> int:
        return sum(one.weights * self._scores[one.name].numel() for one in self._scored)

    @property
    def sparsity(self) -> float:
        """The share of the weights that is masked now; of heads and neurons biases count too."""
        masked_now = sum(one.weights * int((~self._stays[one.name]).sum()) for one in self._scored)
        return masked_now / self._weights if self._scored else 0.0

    @property
    def target(self) -> float | None:
        """The share that will be masked in the end, exactly; None with `soft`, where training decides it."""
        final = self.config.final
        if final is None or not self._scored:
            return final
        counts = [(both[0].weights, sum(self._scores[one.name].numel() for one in both)) for both in self._compared()]
        return sum(weights * round(final * count) for weights, count in counts) / self._weights

    # What is kept, and what comes of it.

    def state(self) -> dict[str, Tensor]:
        """Return scores and masks."""
        scores = {f"scores.{name}": scores.detach() for name, scores in self._scores.items()}
        return scores | {f"stays.{name}": stays for name, stays in self._stays.items()}

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on with the scores and masks of a checkpoint.

        Raises:
            RequestError: They are of something else.
        """
        own = self.state()
        if {name: value.shape for name, value in state.items()} != {name: value.shape for name, value in own.items()}:
            fix = "Give the options that the run began with, or begin anew in another folder."
            raise RequestError(Fault("pruning", "the checkpoint holds scores of other weights.", fix))
        for name, scores in self._scores.items():
            scores.copy_(state[f"scores.{name}"])
        self._set({name: state[f"stays.{name}"].to(scores.device) for name, scores in self._scores.items()})

    def finish(self) -> None:
        """Set what is masked to zero, remove heads and neurons that are masked or left empty, and stop masking."""
        emptied = self.sparsity > 0 and any(isinstance(one, ScoredBlocks) for one in self._scored)
        self._masks.apply()
        self._masks.remove()
        self._silenced.close()
        kept = {
            one.name: self._stays[one.name].nonzero().flatten().tolist()
            for one in self._scored
            if isinstance(one, ScoredUnits)
        }
        keep_units(self._model, {name: units for name, units in kept.items() if len(units) < len(self._stays[name])})
        if emptied and self.config.remove_empty:
            remove_silent(self._model)


class _UnitMasks(dict[str, Tensor]):
    """The masks of heads and neurons, made anew whenever the model asks: each call has its own gradient."""

    def __init__(self, pruner: MovementPruner, names: list[str]) -> None:
        super().__init__(dict.fromkeys(names, torch.empty(0)))
        self._pruner = pruner

    def __getitem__(self, name: str) -> Tensor:
        return self._pruner.mask(name)


def _relative(sizes: Tensor) -> Tensor:
    """Return sizes in parts of their mean: of the order that a score moves in some hundred steps."""
    return sizes / sizes.mean().clamp(min=torch.finfo(sizes.dtype).tiny)


def _sizes(together: list[Scored]) -> Tensor:
    return torch.cat([one.sizes().flatten() for one in together])
