"""Two models side by side, one layer at a time: the dense one, and the one that is being rebuilt."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hfcompress.modeling.blocks import Blocks
from hfcompress.modeling.groups import Group

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from hfcompress.calibration import Batch


class _StopHere(Exception):
    """Raised in a hook: what follows in the layer need not run."""


@dataclass
class _Call:
    """One call of a layer: what it was given beside the hidden states, and those of both models."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    named: bool
    """Whether the hidden states are given by name."""

    def run(self, layer: nn.Module, hidden: Tensor) -> Tensor:
        """Run a layer on hidden states and return those that it gives."""
        given = layer(hidden_states=hidden, **self.kwargs) if self.named else layer(hidden, *self.args, **self.kwargs)
        states: Tensor = given[0] if isinstance(given, tuple) else given
        return states


@dataclass
class Seen:
    """What was seen of a group in a run of its layer.

    Args:
        inputs: What its reader takes.
        output: What its reader gives.
        stream: What that is added to.
    """

    inputs: Tensor
    output: Tensor
    stream: Tensor


class Walk:
    """A model before and after it is rebuilt, side by side on the same batches, one layer at a time.

    Args:
        model: The model as rebuilt so far.
        batches: What it is called with.
        blocks: The stack's row of the block table.
        layers: The stack to walk through.
    """

    def __init__(self, model: PreTrainedModel, batches: Sequence[Batch], blocks: Blocks, layers: nn.ModuleList) -> None:
        self.model, self.batches, self.blocks, self.layers = model, batches, blocks, layers
        recorded = [_record(model, layers, batch) for batch in batches]
        self._calls = [calls for calls, _ in recorded]
        self._dense = [hidden for _, hidden in recorded]
        self._rebuilt = list(self._dense)
        self._before: list[dict[str, Seen]] = []
        names = {id(module): name for name, module in model.named_modules()}
        self._prefixes = [f"{names[id(layer)]}." for layer in layers]

    def enter(self, number: int, groups: Sequence[Group]) -> None:
        """Run a layer that is not rebuilt yet, and keep what was seen of its groups."""
        runs = [self._run(self._dense[place], number, place, groups) for place in range(len(self.batches))]
        self._before = [seen for seen, _ in runs]
        self._dense = [hidden for _, hidden in runs]

    def before(self, place: int, group: Group) -> Seen:
        """Return what was seen of a group in a batch before its layer was rebuilt."""
        return self._before[place][group.name]

    def now(self, number: int, place: int, groups: Sequence[Group]) -> Seen:
        """Return what is to be seen now of the last of some groups, all those of a layer up to it."""
        seen, _ = self._run(self._rebuilt[place], number, place, groups, stop=True)
        return seen[groups[-1].name]

    def leave(self, number: int) -> None:
        """Run a layer that is rebuilt, and take the hidden states to the next one."""
        runs = [self._run(self._rebuilt[place], number, place, []) for place in range(len(self.batches))]
        self._rebuilt = [hidden for _, hidden in runs]

    def _run(
        self, hidden: Tensor, number: int, place: int, groups: Sequence[Group], stop: bool = False
    ) -> tuple[dict[str, Seen], Tensor]:
        """Run a layer on a batch's hidden states; return what was seen of groups, and the next hidden states.

        Where norms stand first, the stream is what went in and what was added so far; otherwise what a group reads.

        Args:
            hidden: What goes in.
            number: The layer's number.
            place: The batch's number, for what else the layer is given.
            groups: The groups to look at, the first ones of the layer.
            stop: Not to run what comes after the last reader.
        """
        layer = self.layers[number]
        streams: dict[str, Tensor] = {}
        seen: dict[str, Seen] = {}
        handles = []
        for group in groups:

            def note_writer(module: nn.Module, args: Any, name: str = group.name) -> None:
                streams.setdefault(name, args[0])  # DeBERTa then projects positions with the same layer

            def note_reader(module: nn.Module, args: Any, output: Tensor, name: str = group.name) -> None:
                stream = streams[name]
                if self.blocks.norm_first:
                    stream = sum((one.output for one in seen.values()), start=hidden)
                seen[name] = Seen(args[0], output, stream)
                if stop and len(seen) == len(groups):
                    raise _StopHere

            writer, reader = (
                layer.get_submodule(channels.module.removeprefix(self._prefixes[number]))
                for channels in (group.writers[0], group.reader)
            )
            handles += [writer.register_forward_pre_hook(note_writer), reader.register_forward_hook(note_reader)]
        try:
            with suppress(_StopHere):
                hidden = self._calls[place][number].run(layer, hidden)
        finally:
            for handle in handles:
                handle.remove()
        return seen, hidden


def can_walk(model: PreTrainedModel, blocks: Blocks, layers: nn.ModuleList, batch: Batch) -> bool:
    """Say whether a stack's layers are called one by one, in a way that hooks hear of (SqueezeBERT's are not)."""
    return not blocks.shared and len(_record(model, layers[-1:], batch)[0]) == 1


def _record(model: PreTrainedModel, layers: nn.ModuleList, batch: Batch) -> tuple[list[_Call], Tensor]:
    """Run a model once; return what each layer is given, and the hidden states that the first one is given."""
    calls: list[_Call] = []
    start: list[Tensor] = []

    def note(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        named = "hidden_states" in kwargs
        rest = {name: value for name, value in kwargs.items() if name != "hidden_states"}
        calls.append(_Call(args if named else args[1:], rest, named))
        if not start:
            start.append(kwargs["hidden_states"] if named else args[0])

    handles = [layer.register_forward_pre_hook(note, with_kwargs=True) for layer in layers]
    # A cache would be filled by every run of a layer.
    options = {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}
    try:
        model(**batch, **options)
    finally:
        for handle in handles:
            handle.remove()
    return calls, start[0] if start else torch.empty(0)
