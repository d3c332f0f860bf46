"""Which layers a method works on: the linear ones of the block table's layers, or those that filters choose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from torch import Tensor, nn

from hfcompress.config import option
from hfcompress.errors import Fault, ModelError, RequestError
from hfcompress.modeling.families import FAMILIES, no_row, stacks_of
from hfcompress.modeling.linear import LINEAR, weight_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SHOWN = 6
"""How many names an error lists."""


@dataclass
class TargetOptions:
    """Which linear layers a method works on; a base of the configs of methods that take one after another."""

    layers: list[int] | None = option(None, help="numbers of the layers that are changed, from 0; default: all")
    modules: list[str] | None = option(None, help="patterns of names of the modules that are changed, such as *.fc1")
    exclude: list[str] | None = option(None, help="patterns of names of modules that stay as they are")

    def chosen(self, model: PreTrainedModel, kinds: tuple[type, ...] = LINEAR) -> dict[str, nn.Module]:
        """Return the modules that are changed, by name; of those that share a weight the first.

        Args:
            model: The model.
            kinds: What the method can change.

        Raises:
            RequestError: A filter matches nothing, or only one side of a tie; every such fault.
            ModelError: The architecture has no row in the block table, and `modules` is not given.
        """
        return distinct(targets_of(model, self.layers, self.modules, self.exclude, kinds))


def targets_of(
    model: PreTrainedModel,
    layers: Sequence[int] | None = None,
    modules: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    kinds: tuple[type, ...] = LINEAR,
    packed: bool = False,
) -> dict[str, nn.Module]:
    """Return the modules whose `weight` is changed, by name, in the model's order.

    Without filters these are the linear layers and convolutions inside the layers of the block table, so neither
    embeddings nor heads.

    Args:
        model: The model.
        layers: Numbers of the layers to choose from, counted from 0; of an encoder and a decoder those of both.
        modules: Patterns of module names, such as `*.attention.*`; they also find what stands outside the layers.
        exclude: Patterns of module names that are left out.
        kinds: What the method can change; tables of embeddings are found where `modules` names them.
        packed: Find also those whose weights are packed into integers.

    Raises:
        RequestError: A filter matches nothing, or only one side of a tie; every such fault.
        ModelError: The architecture has no row in the block table, and `modules` is not given.
    """
    named: dict[str, nn.Module] = {
        name: module for name, module in model.named_modules() if _has_weights(module, kinds, packed)
    }
    inside = named
    if layers is not None or modules is None:
        chosen, depth = _of_layers(model, layers)
        inside = {name: module for name, module in named.items() if id(module) in chosen}
    faults = [*(_layer_faults(layers, depth) if layers is not None else ())]
    faults += _unmatched("modules", modules, inside) + _unmatched("exclude", exclude, inside)
    found = {
        name: module
        for name, module in inside.items()
        if (modules is None or _matches(name, modules)) and not _matches(name, exclude or ())
    }
    if not found and not faults:
        fix = "Change layers, modules or exclude." if layers or modules or exclude else "Name them (modules)."
        faults.append(Fault("modules", f"no weight of this {model.config.model_type} is left to be changed.", fix))
    faults += _half_ties(model, found)
    if faults:
        raise RequestError(*faults)
    return found


def distinct(modules: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Return the first module of each weight: those that are tied have one in common."""
    first: dict[int, str] = {}
    for name, module in modules.items():
        first.setdefault(id(module.weight), name)
    return {name: modules[name] for name in first.values()}


def refuse_nan(modules: dict[str, nn.Module]) -> None:
    """Check that weights are numbers.

    Raises:
        ModelError: Some are NaN or infinite, so that their sizes cannot be compared; each module is named.
    """
    wrong = [name for name, module in modules.items() if not weight_of(module).isfinite().all()]
    if wrong:
        problem = f"weights of {_some(wrong)} are NaN or infinite."
        raise ModelError(Fault("", problem, "Start from a sound checkpoint, or leave them out (exclude)."))


def _of_layers(model: PreTrainedModel, numbers: Sequence[int] | None) -> tuple[set[int], int]:
    """Return the ids of all modules inside some layers, and how many layers the deepest stack has.

    Raises:
        ModelError: The architecture has no row in the block table.
    """
    if model.config.model_type not in FAMILIES:
        instead = "Say by name what is changed: give modules, such as '*.query', and leave layers out."
        raise no_row(model.config.model_type, instead)
    stacks = [layers for _, layers in stacks_of(model)]
    chosen = {
        id(module)
        for layers in stacks
        for number, layer in enumerate(layers)
        if numbers is None or number in numbers
        for module in layer.modules()
    }
    return chosen, max((len(layers) for layers in stacks), default=0)


def _layer_faults(numbers: Sequence[int], depth: int) -> Iterator[Fault]:
    wrong = sorted(number for number in set(numbers) if not 0 <= number < depth)
    if wrong or not numbers:
        given = f"there is no layer {', '.join(map(str, wrong))}" if wrong else "it names no layer"
        yield Fault("layers", f"{given}.", f"The model has {depth}: 0 to {depth - 1}.")


def _has_weights(module: nn.Module, kinds: tuple[type, ...], packed: bool) -> bool:
    """Say whether a module is of these kinds and has weights that can be set to zero: not packed into integers."""
    weight = getattr(module, "weight", None)
    return isinstance(module, kinds) and isinstance(weight, Tensor) and (packed or weight.is_floating_point())


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _unmatched(where: str, patterns: Sequence[str] | None, named: dict[str, nn.Module]) -> list[Fault]:
    return [
        Fault(where, f"'{pattern}' matches nothing.", f"There are for example {_some(list(named))}.")
        for pattern in patterns or ()
        if named and not any(fnmatchcase(name, pattern) for name in named)
    ]


def _half_ties(model: PreTrainedModel, found: dict[str, nn.Module]) -> list[Fault]:
    """Find weights of which one owner is to be changed and another is not."""
    weights = {id(module.weight): name for name, module in found.items()}
    others = [
        (weights[id(weight)], name)
        for name, module in model.named_modules()
        if (weight := getattr(module, "weight", None)) is not None and id(weight) in weights and name not in found
    ]
    return [
        Fault(
            "modules",
            f"'{one}' is tied to '{other}': they are one weight, and only one of the two is asked for.",
            f"Exclude '{one}', or choose both where the method can change both.",
        )
        for one, other in others
    ]


def _some(names: Sequence[str]) -> str:
    """Return some of the names, from all over the list, for an error."""
    step = max(1, len(names) // _SHOWN)
    shown = names[::step][:_SHOWN]
    return ", ".join(f"'{name}'" for name in shown) + (", …" if len(names) > len(shown) else "")
