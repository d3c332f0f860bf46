"""Masking weights while a model runs; its parameters stay dense and keep their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from hfcompress.training.substitutes import Substitutes

Mask: TypeAlias = Tensor | Callable[[], Tensor]
"""What a parameter is multiplied by: of its shape or one that spreads to it, or a function that gives such a mask anew
at each forward pass, through which gradients flow."""


class Masks(Substitutes):
    """Multiplies parameters by masks whenever the modules that own them run; see `Substitutes`.

    Args:
        model: The model.
        names: The parameters that may be masked, by their names in the model.

    Attributes:
        by_name: The masks; they are read at each forward pass, and parameters without one stay as they are.

    Example:
        >>> masks = Masks(layer, ["weight"])  # doctest: +SKIP
        >>> masks.by_name["weight"] = layer.weight.abs() > 0.1  # doctest: +SKIP
    """

    by_name: dict[str, Mask]

    def __init__(self, model: nn.Module, names: Iterable[str]) -> None:
        super().__init__(model, names, _masked)

    @torch.no_grad()
    def apply(self) -> None:
        """Make the masks true: multiply the parameters by them, in place; what is masked becomes exactly 0."""
        for name, mask in self.by_name.items():
            values = value_of(mask)
            self.parameters[name].mul_(values).masked_fill_(values == 0, 0)


def value_of(mask: Mask) -> Tensor:
    """Return a mask's values now."""
    return mask if isinstance(mask, Tensor) else mask()


def _masked(weight: Tensor, mask: Mask) -> Tensor:
    return weight * value_of(mask).to(weight)
