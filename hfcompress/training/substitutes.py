"""Letting a module read another weight while it runs; the model's parameters stay where they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle


def call(weight: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Return what a function makes of a weight."""
    return function(weight)


class Substitutes:
    """Puts other weights in the place of parameters whenever the modules that own them run.

    A module's own attribute goes before its parameter of the same name: while the module runs, it reads the substitute
    there. Nothing is renamed or replaced, so that state dicts, optimizers, DDP and checkpoints see the parameters, and
    gradient checkpointing substitutes again when it computes again. A parameter that several modules share is
    substituted in all of them. Several such objects on one model act one after the other.

    Args:
        model: The model.
        names: The parameters that may be substituted, by their names in the model.
        substitute: Returns what a module reads, of its weight and what `by_name` holds.

    Attributes:
        by_name: What decides the substitutes; read at each forward pass. Parameters without an entry stay as they are.

    Example:
        >>> rounded = Substitutes(layer, ["weight"])  # doctest: +SKIP
        >>> rounded.by_name["weight"] = torch.round  # doctest: +SKIP
    """

    def __init__(
        self, model: nn.Module, names: Iterable[str], substitute: Callable[[Tensor, Any], Tensor] = call
    ) -> None:
        self.parameters = {name: model.get_parameter(name) for name in names}
        self.by_name: dict[str, Any] = {}
        self._handles: list[RemovableHandle] = []
        owned = {id(parameter): name for name, parameter in self.parameters.items()}
        for module in model.modules():
            for own, parameter in module._parameters.items():
                if id(parameter) in owned:
                    self._watch(module, own, owned[id(parameter)], substitute)

    def _watch(self, module: nn.Module, own: str, name: str, substitute: Callable[[Tensor, Any], Tensor]) -> None:
        # The hooks hold `by_name` alone, not this object: a deep copy of the model is altered as the model is.
        put = partial(_put, self.by_name, own, name, substitute)
        self._handles.append(module.register_forward_pre_hook(put))
        self._handles.append(module.register_forward_hook(partial(_take, own), always_call=True))

    def remove(self) -> None:
        """Stop substituting."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self.by_name.clear()


def _put(
    by_name: dict[str, Any],
    own: str,
    name: str,
    substitute: Callable[[Tensor, Any], Tensor],
    module: nn.Module,
    args: Any,
) -> None:
    if name in by_name:
        module.__dict__[own] = substitute(getattr(module, own), by_name[name])


def _take(own: str, module: nn.Module, args: Any, output: Any) -> None:
    module.__dict__.pop(own, None)
