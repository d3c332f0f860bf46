"""Masking weights while a model runs; its parameters stay dense and keep their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

Mask: TypeAlias = Tensor | Callable[[], Tensor]
"""What a parameter is multiplied by: of its shape or one that spreads to it, or a function that gives such a mask anew
at each forward pass, through which gradients flow."""


class Masks:
    """Multiplies parameters by masks whenever the modules that own them run.

    A module's own attribute goes before its parameter of the same name: while the module runs, it reads the masked
    weight there. Nothing is renamed or replaced, so that state dicts, optimizers, DDP and checkpoints see the dense
    parameters, and gradient checkpointing masks again when it computes again. A parameter that several modules share
    is masked in all of them.

    Args:
        model: The model.
        names: The parameters that may be masked, by their names in the model.

    Attributes:
        by_name: The masks; they are read at each forward pass, and parameters without one stay as they are.

    Example:
        >>> masks = Masks(layer, ["weight"])  # doctest: +SKIP
        >>> masks.by_name["weight"] = layer.weight.abs() > 0.1  # doctest: +SKIP
    """

    def __init__(self, model: nn.Module, names: Iterable[str]) -> None:
        self.parameters = {name: model.get_parameter(name) for name in names}
        self.by_name: dict[str, Mask] = {}
        self._handles: list[RemovableHandle] = []
        owned = {id(parameter): name for name, parameter in self.parameters.items()}
        for module in model.modules():
            for own, parameter in module._parameters.items():
                if id(parameter) in owned:
                    self._watch(module, own, owned[id(parameter)])

    def _watch(self, module: nn.Module, own: str, name: str) -> None:
        # The hooks hold the masks alone, not this object: a deep copy of the model is masked as the model is.
        put = partial(_put, self.by_name, own, name)
        self._handles.append(module.register_forward_pre_hook(put))
        self._handles.append(module.register_forward_hook(partial(_take, own), always_call=True))

    @torch.no_grad()
    def apply(self) -> None:
        """Make the masks true: multiply the parameters by them, in place; what is masked becomes exactly 0."""
        for name, mask in self.by_name.items():
            values = value_of(mask)
            self.parameters[name].mul_(values).masked_fill_(values == 0, 0)

    def remove(self) -> None:
        """Stop masking."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self.by_name.clear()


def value_of(mask: Mask) -> Tensor:
    """Return a mask's values now."""
    return mask if isinstance(mask, Tensor) else mask()


def _put(masks: dict[str, Mask], own: str, name: str, module: nn.Module, args: Any) -> None:
    if name in masks:
        weight: Tensor = getattr(module, own)
        module.__dict__[own] = weight * value_of(masks[name]).to(weight)


def _take(own: str, module: nn.Module, args: Any, output: Any) -> None:
    module.__dict__.pop(own, None)
