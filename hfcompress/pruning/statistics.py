"""What one-shot methods look at: the inputs of each layer on calibration rows, behind what is already pruned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from annotated_types import Ge, Interval
from torch import nn

from hfcompress.calibration import calibration_inputs, evaluating
from hfcompress.config import checked_by, gather, option
from hfcompress.errors import Fault, RequestError
from hfcompress.modeling.families import FAMILIES, stacks_of
from hfcompress.modeling.linear import rows_of
from hfcompress.modeling.statistics import Moments, input_moments
from hfcompress.modeling.targets import TargetOptions, refuse_nan
from hfcompress.naming import brief_names

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from hfcompress.context import Context


def read_pattern(text: str) -> tuple[int, int]:
    """Read `N:M`: of M inputs in a row, at most N stay.

    Raises:
        RequestError: It is no such pattern.
    """
    kept, colon, of = text.partition(":")
    if not (colon and kept.isdecimal() and of.isdecimal() and 0 < int(kept) <= int(of)):
        problem = f"'{text}' is not a pattern."
        raise RequestError(Fault("pattern", problem, "Write N:M with 1 ≤ N ≤ M, such as 2:4: N of M inputs stay."))
    return int(kept), int(of)


@dataclass
class Amount:
    """How many weights are set to zero; a base of the configs of one-shot methods."""

    sparsity: Annotated[float, Interval(ge=0, lt=1)] | None = option(
        None, help="share of the weights that is set to zero, from 0 up; either this or pattern"
    )
    pattern: Annotated[str | None, checked_by(read_pattern)] = option(
        None, help="N:M, such as 2:4: of M inputs in a row each output keeps at most N; either this or sparsity"
    )

    def check(self) -> None:
        """Look across the fields.

        Raises:
            RequestError: Not exactly one of sparsity and pattern is given.
        """
        if (self.sparsity is None) == (self.pattern is None):
            given = "neither is" if self.sparsity is None else "both are"
            fix = "Give sparsity (0.5) for weights anywhere, or pattern (2:4) for the same number in every M."
            raise RequestError(
                Fault("sparsity", f"sparsity or pattern decides what is removed, and {given} given.", fix)
            )

    @property
    def kept_of(self) -> tuple[int, int] | None:
        """The pattern's numbers; None without one."""
        return read_pattern(self.pattern) if self.pattern else None

    @property
    def removes_nothing(self) -> bool:
        """Whether every weight stays."""
        kept, of = self.kept_of or (0, 1)
        return self.sparsity == 0 or kept == of


@dataclass
class OneShot(TargetOptions, Amount):
    """What one-shot methods are told; a base of their configs."""

    examples: Annotated[int, Ge(1)] = option(256, help="training rows to look at the model with; labels are not used")
    batch_size: Annotated[int, Ge(1)] = option(32, help="rows in a batch")
    sequential: bool = option(True, help="prune layer after layer, each on the inputs that the pruned ones before give")


def prune_on_rows(
    model: PreTrainedModel,
    config: OneShot,
    context: Context,
    prune: Callable[[nn.Module, Moments], None],
    products: bool,
) -> PreTrainedModel:
    """Prune modules one by one, in place, each by the moments of its inputs on calibration rows.

    Args:
        model: The model; without a sparsity it comes back untouched.
        config: What is pruned, and on how many rows.
        context: Gives the rows.
        prune: Sets a module's weights.
        products: Whether `prune` needs the products of every two inputs, or only their squares.

    Raises:
        RequestError: The filters match nothing, or the pattern does not fit a layer.
        ModelError: Weights or activations are NaN or infinite; the layer is named.
    """
    chosen = config.chosen(model)
    gather(lambda: check_pattern(chosen, config.pattern), lambda: _check_kernels(chosen))
    refuse_nan(chosen)
    batches = calibration_inputs(model, context, config.examples, config.batch_size)
    if config.removes_nothing:
        return model
    for stage in _stages(model, chosen) if config.sequential else [chosen]:
        with (
            evaluating(model),
            torch.no_grad(),
            input_moments(model, stage, products=products, patches=True) as moments,
        ):
            for batch in batches:
                model(**batch)
        for name, module in stage.items():
            prune(module, moments[name])
    return model


def smallest(scores: Tensor, count: int) -> Tensor:
    """Mark the `count` smallest scores along the last dimension; of equal ones the first."""
    order = scores.argsort(dim=-1, stable=True)[..., :count]
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, order, True)


def check_pattern(modules: Mapping[str, nn.Module], pattern: str | None) -> None:
    """Check that the inputs of each output divide into a pattern's; None fits all.

    Raises:
        RequestError: Those of some modules do not; modules of one width are named together.
    """
    if pattern is None:
        return
    wrong: dict[int, list[str]] = {}
    fix = "Exclude them, or change the M."
    for name, module in modules.items():
        width = rows_of(module).shape[-1]
        if width % read_pattern(pattern)[1]:
            wrong.setdefault(width, []).append(name)
    faults = [
        Fault("pattern", f"{pattern} does not divide the {width} inputs of {brief_names(names)}.", fix)
        for width, names in wrong.items()
    ]
    if faults:
        raise RequestError(*faults)


def _check_kernels(modules: Mapping[str, nn.Module]) -> None:
    """Refuse convolutions over texts that read several tokens at once: those of padding would count.

    Raises:
        RequestError: There are some; they are named.
    """
    wrong = [name for name, one in modules.items() if isinstance(one, nn.Conv1d) and one.kernel_size != (1,)]
    if wrong:
        problem = f"{brief_names(wrong)}: these read several tokens at once, which magnitude alone can prune."
        raise RequestError(Fault("modules", problem, "Exclude them."))


def _stages(model: PreTrainedModel, modules: Mapping[str, nn.Module]) -> list[dict[str, nn.Module]]:
    """Divide modules among the model's layers, in their order; what stands before and behind makes stages too."""
    layers = [layer for _, stack in stacks_of(model) for layer in stack] if model.config.model_type in FAMILIES else []
    place = {id(module): number for number, layer in enumerate(layers) for module in layer.modules()}
    stages: list[dict[str, nn.Module]] = []
    last: int | None = None
    for name, module in modules.items():
        here = place.get(id(module))
        if not stages or here != last:
            stages.append({})
        stages[-1][name] = module
        last = here
    return stages
