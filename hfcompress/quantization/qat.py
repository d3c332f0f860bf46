"""The `qat` step: training with weights and activations rounded to 8 bits, so that static int8 costs little."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from annotated_types import Interval
from torch import Tensor, nn

from hfcompress.config import gather, option
from hfcompress.errors import Fault, RequestError
from hfcompress.modeling.linear import LINEAR, is_conv1d_of_gpt2, weight_of
from hfcompress.modeling.targets import TargetOptions, distinct, refuse_nan, targets_of
from hfcompress.quantization.fake_quantization import ActivationRange, round_weight
from hfcompress.quantization.trained_ranges import read_ranges, who_reads, write_ranges
from hfcompress.quantization.weights import SMALLEST_SIDE
from hfcompress.registry import register
from hfcompress.training.alteration import Alteration, AlterationConfig, Length
from hfcompress.training.altered_step import TrainingOptions, train_altered
from hfcompress.training.substitutes import Substitutes

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle
    from transformers import PreTrainedModel

    from hfcompress.context import Context

Share = Annotated[float, Interval(ge=0, le=1)]


@dataclass
class QatConfig(TargetOptions, TrainingOptions, AlterationConfig):
    """Options of `qat`; any TrainingArguments field can stand beside them."""

    ranges: Literal["average", "learned"] = option(
        "average", help="ranges of activations: moving averages of the batches' limits, or learned by gradients"
    )
    momentum: Annotated[float, Interval(ge=0, lt=1)] = option(
        0.99, help="what the old moving average of a range counts in the new one"
    )
    start: Share = option(0.1, help="share of the training before rounding begins; ranges are observed meanwhile")
    freeze: Share = option(0.2, help="share of the training, at its end, in which ranges stay as they are")
    no_embeddings: bool = option(False, help="leave tables of embeddings in float")

    def check(self) -> None:
        """Look across the fields.

        Raises:
            RequestError: There is no time between start and freeze, or the losses do not go together.
        """
        gather(self._check_shares, self.check_losses)

    def _check_shares(self) -> None:
        if self.start + self.freeze > 1:
            problem = f"start {self.start:g} and freeze {self.freeze:g} are more than the whole training."
            raise RequestError(Fault("freeze", problem, "Give shares that sum to 1 at most."))

    def targets(self, model: PreTrainedModel) -> dict[str, nn.Module]:
        """Return the layers whose weights and inputs are rounded, by name: those that the exporter quantizes.

        Raises:
            RequestError: The filters match nothing, or nothing that is large enough.
            ModelError: Weights are NaN or infinite.
        """
        everything = ["*"] if self.layers is None and self.modules is None else self.modules
        kinds = LINEAR if self.no_embeddings else (*LINEAR, nn.Embedding)
        found = distinct(targets_of(model, self.layers, everything, self.exclude, kinds))
        found = {name: module for name, module in found.items() if _is_large(module)}
        if not found:
            problem = f"none of these layers has {SMALLEST_SIDE} inputs and outputs, which the exporter asks for."
            raise RequestError(Fault("modules", problem, "Choose others."))
        refuse_nan(found)
        return found

    def build(self, model: PreTrainedModel) -> FakeQuantizer:
        """Return what `CompressionTrainer(quantization=…)` works with."""
        return FakeQuantizer(self, list(self.targets(model)), who_reads(model, self.inputs(model)))

    def inputs(self, model: PreTrainedModel) -> list[str]:
        """Return the layers whose inputs are rounded: all but tables."""
        return [name for name, module in self.targets(model).items() if not isinstance(module, nn.Embedding)]


def _is_large(module: nn.Module) -> bool:
    if not isinstance(module, nn.Embedding) and getattr(module, "groups", 1) != 1:
        return False
    weight = weight_of(module)
    return weight.dim() > 2 or min(weight.shape) >= SMALLEST_SIDE


@register("quantization", "qat", QatConfig)
def qat(model: PreTrainedModel, config: QatConfig, context: Context) -> PreTrainedModel:
    """Train with weights and activations rounded to 8 bits, for a static int8 file that answers alike.

    Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
    arXiv 1712.05877: forward passes compute with rounded numbers, gradients pass through the rounding. Weights have a
    scale for each output, tables of embeddings one for each row, activations a range for each tensor that layers read.
    In the end the weights lie on their grids, and the ranges stand in the config: `hfcompress export --quantize static`
    writes just these.

    Args:
        model: The model; changed in place.
        config: What is rounded, and when.
        context: Gives the data to train on.

    Raises:
        RequestError: The filters match nothing.
        ModelError: Weights are NaN or infinite.
    """
    return train_altered("quantization", model, config, context, "qat")


class FakeQuantizer(Alteration):
    """Rounds weights and the inputs of layers while a model runs; see `qat`.

    Args:
        config: What is rounded, and when.
        weights: Names of the layers whose weights are rounded.
        readers: By the layer that stands for it, the layers that read one activation.
    """

    def __init__(self, config: QatConfig, weights: list[str], readers: Mapping[str, list[str]]) -> None:
        self.config = config
        self.weights = weights
        self.readers = readers
        is_learned = config.ranges == "learned"
        self.ranges = {name: ActivationRange(is_learned, config.momentum) for name in readers}
        self.learned = nn.ModuleDict({name.replace(".", "/"): one for name, one in self.ranges.items()})
        self._handles: list[RemovableHandle] = []
        self._phase = _Phase()
        self._begin = self._end = 0
        self._model: PreTrainedModel
        self._substitutes: Substitutes
        self._rounding: dict[str, partial[Tensor]] = {}

    def attach(self, model: PreTrainedModel) -> None:
        """Round from now on."""
        self._model = model
        self._substitutes = Substitutes(model, [f"{name}.weight" for name in self.weights])
        self._rounding = {
            f"{name}.weight": partial(_round_module, model.get_submodule(name), not _only_looked_up(model, name))
            for name in self.weights
        }
        for name, names in self.readers.items():
            for reader in names:
                hook = partial(_round_input, self.ranges[name], self._phase, reader == name)
                self._handles.append(model.get_submodule(reader).register_forward_pre_hook(hook))

    def prepare(self, length: Length) -> None:
        """Take note of when rounding begins, and when ranges stay."""
        self._begin = round(self.config.start * length.steps)
        self._end = length.steps - round(self.config.freeze * length.steps)

    def set_step(self, step: int) -> None:
        """Decide whether to round, and whether ranges change."""
        self._phase.rounds = step >= self._begin
        self._phase.observes = step < self._end and (self.config.ranges == "average" or step <= self._begin)
        self._phase.learns = self._phase.rounds and not self._phase.observes and step < self._end
        self._substitutes.by_name.clear()
        if self._phase.rounds:
            self._substitutes.by_name.update(self._rounding)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the ranges, where they are learned."""
        found = [parameter for parameter in self.learned.parameters() if parameter.requires_grad]
        return [{"params": found, "weight_decay": 0.0}] if found else []

    @property
    def settled(self) -> bool:
        """Whether numbers are rounded now."""
        return self._phase.rounds

    def progress(self) -> str:
        """Say what is going on."""
        return "8 bits" if self._phase.rounds else "observing"

    def state(self) -> dict[str, Tensor]:
        """Return the ranges."""
        return dict(self.learned.state_dict())

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on with these ranges.

        Raises:
            RequestError: They are of other layers.
        """
        if set(state) != set(self.learned.state_dict()):
            fix = "Give the layers that the checkpoint was made with, or begin anew in another folder."
            raise RequestError(Fault("quantization", "the checkpoint's ranges are of other layers.", fix))
        self.learned.load_state_dict(state)

    @torch.no_grad()
    def finish(self) -> None:
        """Put the weights on their grids, write the ranges into the config, and stop rounding."""
        self._substitutes.remove()
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._phase.rounds = False
        for name, rounded in self._rounding.items():
            weight = self._model.get_parameter(name)
            weight.copy_(rounded(weight))
        found = {name: (float(one.low.clamp(max=0)), float(one.high.clamp(min=0))) for name, one in self.ranges.items()}
        write_ranges(self._model.config, {reader: found[name] for name in found for reader in self.readers[name]})


@dataclass
class _Phase:
    """What is done at this step."""

    rounds: bool = False
    observes: bool = True
    learns: bool = False


def _round_module(module: nn.Module, in_product: bool, weight: Tensor) -> Tensor:
    """Round a layer's weight along its outputs; GPT-2 keeps its weights the other way round."""
    turned = is_conv1d_of_gpt2(module)
    return round_weight(weight.T, in_product).T if turned else round_weight(weight, in_product)


def _only_looked_up(model: nn.Module, name: str) -> bool:
    """Say whether a layer is a table that nothing multiplies with; heads that are tied to one do."""
    weight = model.get_submodule(name).weight
    return all(isinstance(one, nn.Embedding) for one in model.modules() if getattr(one, "weight", None) is weight)


def _round_input(found: ActivationRange, phase: _Phase, is_first: bool, module: nn.Module, args: Any) -> Any:
    """Round what goes into a layer; the first of those that read it observes."""
    values, *rest = args
    if module.training and phase.observes and is_first:
        found.observe(values)
    return (found(values, phase.learns and module.training), *rest) if phase.rounds else None


@contextmanager
def rounded_inputs(model: PreTrainedModel) -> Iterator[None]:
    """Compute meanwhile as the static int8 file of a model that `qat` trained does: with rounded activations.

    Raises:
        RequestError: The model's config holds no ranges.
    """
    ranges = read_ranges(model.config)
    if not ranges:
        fix = "Train it with the step qat."
        raise RequestError(Fault("model", "its config holds no trained ranges.", fix))
    handles = []
    for name, (low, high) in ranges.items():
        one = ActivationRange(learned=False, momentum=0.0)
        one.low.data, one.high.data = torch.tensor(low), torch.tensor(high)
        hook = partial(_round_input, one, _Phase(rounds=True, observes=False), False)
        handles.append(model.get_submodule(name).register_forward_pre_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
