"""What one score can stand for: a weight, a block of a matrix, a head, a neuron."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hfcompress.errors import Fault, ModelError, RequestError
from hfcompress.modeling.groups import Channels, Group, Kind, groups_of
from hfcompress.modeling.linear import channels_in, in_shape_of_weight, matrix, rows_of
from hfcompress.naming import brief_names

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Scored(ABC):
    """Weights that are kept or removed together, one score each.

    Args:
        name: Unique in the model.
        kind: What is compared with each other where all of the model is (`scope: global`).
        weights: How many weights one score stands for.
    """

    def __init__(self, name: str, kind: str, weights: int) -> None:
        self.name, self.kind, self.weights = name, kind, weights

    @abstractmethod
    def sizes(self) -> Tensor:
        """Return the mean absolute value of the weights behind each score, in float32 and in the scores' shape."""


class ScoredBlocks(Scored):
    """The blocks of one matrix; single weights are blocks of 1 x 1.

    Args:
        name: The weight's module.
        module: A linear layer or a convolution, which is a matrix `(outputs, channels * kernel)`.
        rows: Outputs in a block.
        columns: Inputs in a block.
    """

    def __init__(self, name: str, module: nn.Module, rows: int = 1, columns: int = 1) -> None:
        super().__init__(name, "blocks", rows * columns)
        self.module, self.rows, self.columns = module, rows, columns

    def sizes(self) -> Tensor:
        """Return `(outputs / rows, inputs / columns)`: block pooling, by the mean."""
        sizes = matrix(self.module).abs().float()
        return sizes.unflatten(1, (-1, self.columns)).unflatten(0, (-1, self.rows)).mean(dim=(1, 3))

    def spread(self, mask: Tensor) -> Tensor:
        """Return the value of each weight, in the weight's own shape, from those of the blocks; gradients add up."""
        if self.weights > 1:
            height, width = mask.shape
            tall = mask[:, None, :, None].expand(height, self.rows, width, self.columns)
            mask = tall.reshape(height * self.rows, width * self.columns)
        return in_shape_of_weight(self.module, mask)

    def outputs_left(self, mask: Tensor) -> Tensor:
        """Return for each output `(outputs,)` whether a weight is left to it."""
        return mask.any(dim=1).repeat_interleave(self.rows)


class ScoredUnits(Scored):
    """The units of one group: heads or neurons with all weights and biases that belong to them.

    Args:
        model: The model.
        group: The group.
    """

    def __init__(self, model: PreTrainedModel, group: Group) -> None:
        super().__init__(group.name, group.kind, group.parameters(model))
        self.model, self.group = model, group

    def sizes(self) -> Tensor:
        """Return `(units,)`."""
        total = read_by(self.model, self.group)
        for channels in self.group.writers:
            total = total + given_by(self.model, channels, self.group.units)
        return total / self.weights


def scored_blocks(modules: Mapping[str, nn.Module], rows: int, columns: int) -> list[Scored]:
    """Divide matrices into blocks.

    Raises:
        RequestError: Some do not divide; matrices of one shape are named together.
    """
    wrong: dict[tuple[int, int], list[str]] = {}
    for name, module in modules.items():
        outputs, inputs = matrix(module).shape
        if outputs % rows or inputs % columns:
            wrong.setdefault((outputs, inputs), []).append(name)
    faults = [
        Fault(
            "block",
            f"{rows} x {columns} does not divide the {outputs} x {inputs} weights of {brief_names(names)}.",
            "Give divisors of both, or exclude them.",
        )
        for (outputs, inputs), names in wrong.items()
    ]
    if faults:
        raise RequestError(*faults)
    return [ScoredBlocks(name, module, rows, columns) for name, module in modules.items()]


def scored_units(model: PreTrainedModel, kinds: Sequence[Kind], modules: Mapping[str, nn.Module]) -> list[Scored]:
    """Return the groups all of whose layers are among some modules.

    Raises:
        RequestError: There are none.
        ModelError: The architecture has none of these kinds.
    """
    groups = [group for group in groups_of(model, kinds) if all(name in modules for name in modules_of(group))]
    if not groups:
        problem = f"the filters leave no {' or '.join(kinds)} with all the layers that belong to them."
        raise RequestError(Fault("modules", problem, "Choose whole attentions or feed-forward networks."))
    return [ScoredUnits(model, group) for group in groups]


def modules_of(group: Group) -> list[str]:
    """Return the names of the layers that a group's units stand in."""
    return [channels.module for channels in (*group.writers, *group.readers)]


def groups_in(model: PreTrainedModel) -> list[Group]:
    """Return a model's heads and neurons that can be removed; none for an architecture that has none."""
    try:
        return groups_of(model)
    except ModelError:
        return []


def read_by(model: PreTrainedModel, group: Group) -> Tensor:
    """Return the sum `(units,)` of the absolute values of the weights by which a group's units are read."""
    read = []
    for channels in group.readers:
        sums = _input_sums(model.get_submodule(channels.module))
        read.append(sums.view(channels.copies, group.units, channels.width).sum(dim=(0, 2)))
    return torch.stack(read).sum(dim=0)


def given_by(model: PreTrainedModel, channels: Channels, units: int, last_copy: bool = False) -> Tensor:
    """Return the sum `(units,)` of the absolute values of the weights and biases by which a writer gives units.

    Args:
        model: The model.
        channels: The writer's.
        units: How many units there are.
        last_copy: Only the last of the copies (of query, key and value side by side: the value).
    """
    module = model.get_submodule(channels.module)
    sums = matrix(module).abs().float().sum(dim=1)
    bias: Tensor | None = module.bias  # type: ignore[assignment]
    if bias is not None:
        sums = sums + bias.detach().abs().float()
    copies = sums.view(channels.copies, units, channels.width).sum(dim=2)
    return copies[-1] if last_copy else copies.sum(dim=0)


def _input_sums(module: nn.Module) -> Tensor:
    """Return the sum of the absolute values of the weights by which each input channel is read."""
    return rows_of(module).abs().float().sum(dim=1).reshape(channels_in(module), -1).sum(dim=1)
