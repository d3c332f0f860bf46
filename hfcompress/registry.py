"""The one list of methods: what CLI, recipes, search and documentation read.

A method is one file in its family's package, with a dataclass config whose fields carry `help`. Registering it is all
it takes: the package's modules are imported the first time that the family is asked for.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from hfcompress.errors import RequestError, unknown

T = TypeVar("T")

Plan = Callable[[Any, Any, Any], Any]
"""`(config, model config, configs of earlier steps' models by name) -> model config`."""

Predict = Callable[[Any, Any, Any], Any]
"""`(model, config, context) -> model config`: neither the model nor anything on the disk is changed."""


@dataclass(frozen=True)
class Family:
    """Where the methods of one kind live, and whether they can be the step of a recipe."""

    package: str
    is_step: bool


FAMILIES = {
    "loss": Family("hfcompress.distillation.losses", is_step=False),
    "layer_map": Family("hfcompress.distillation.layer_maps", is_step=False),
    "training": Family("hfcompress.training", is_step=True),
    "distillation": Family("hfcompress.distillation", is_step=True),
    "pruning": Family("hfcompress.pruning", is_step=True),
    "factorization": Family("hfcompress.factorization", is_step=True),
    "clustering": Family("hfcompress.clustering", is_step=True),
    "quantization": Family("hfcompress.quantization", is_step=True),
    "onnx_quantization": Family("hfcompress.quantization", is_step=False),
    "export_backend": Family("hfcompress.export.backends", is_step=False),
}


@dataclass(frozen=True)
class Method:
    """One registered method: its name, its config dataclass, and the class or function that does the work.

    `plan` returns the config of the model that the method would make, for `--dry-run`. `predict` does so where that
    takes a look at weights and rows; what else it expects is left in the context's findings.
    """

    family: str
    name: str
    config: type
    target: Any
    plan: Plan | None = None
    predict: Predict | None = None

    @property
    def help(self) -> str:
        """The first line of the method's docstring."""
        return (self.target.__doc__ or "").strip().split("\n")[0]


_methods: dict[tuple[str, str], Method] = {}


def register(
    family: str, name: str, config: type, plan: Plan | None = None, predict: Predict | None = None
) -> Callable[[T], T]:
    """Enter a class or function into the list of methods.

    Args:
        family: A key of `FAMILIES`.
        name: The name that users type; unique within the family.
        config: The method's dataclass; its fields carry `help` in their metadata.
        plan: For a step that changes the architecture: what comes out, without weights.
        predict: For one where only weights and rows say what comes out.

    Raises:
        ValueError: The family does not exist, or the name is taken.
    """
    if family not in FAMILIES:
        raise ValueError(f"there is no family '{family}'; allowed: {', '.join(FAMILIES)}")

    def enter(target: T) -> T:
        taken = _methods.get((family, name))
        if taken is not None and taken.target is not target:
            raise ValueError(f"{family} '{name}' is taken by {taken.target!r}; choose another name")
        _methods[family, name] = Method(family, name, config, target, plan, predict)
        return target

    return enter


def methods(family: str) -> dict[str, Method]:
    """Return the methods of one family by name, sorted, importing its package first."""
    package = importlib.import_module(FAMILIES[family].package)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return {name: method for (kind, name), method in sorted(_methods.items()) if kind == family}


def find(family: str, name: str, where: str = "") -> Method:
    """Return one method.

    Raises:
        RequestError: There is none of that name; the nearest is offered.
    """
    known = methods(family)
    if name not in known:
        raise RequestError(unknown(family.replace("_", " "), name, known, where))
    return known[name]


def steps() -> dict[str, Method]:
    """Return every method that can be the step of a recipe, by name."""
    return {
        name: method for family, where in FAMILIES.items() if where.is_step for name, method in methods(family).items()
    }
