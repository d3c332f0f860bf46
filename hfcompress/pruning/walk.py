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

Batch = dict[str, Tensor]


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
    """Two models side by side on the same batches, one layer at a time: the dense one, and the one being rebuilt.

    Args:
        model: The model as rebuilt so far.
        batches: What it is called with.
        blocks: The stack's row of the block table.
        layers: The stack to walk through.
    """

    def __init__(self, model: PreTrainedModel, batches: Sequence[Batch], blocks: Blocks, layers: nn.ModuleList) -> None:
        self.model, self.batches, self.blocks, self.layers = model, batches, blocks, layers
        recorded = [_record(model, layers, batch) for batch in batches]
        self.calls = [calls for calls, _ in recorded]
        self.dense = [hidden for _, hidden in recorded]
        self.rebuilt = list(self.dense)
        names = {id(module): name for name, module in model.named_modules()}
        self.prefixes = [f"{names[id(layer)]}." for layer in layers]

    def step(self, number: int, dense: nn.Module) -> None:
        """Run a layer, dense and rebuilt, and take the hidden states to the next one."""
        for place, calls in enumerate(self.calls):
            self.dense[place] = calls[number].run(dense, self.dense[place])
            self.rebuilt[place] = calls[number].run(self.layers[number], self.rebuilt[place])

    def look(self, layer: nn.Module, hidden: Tensor, number: int, place: int, groups: Sequence[Group]) -> Seen:
        """Run a layer up to the reader of the last of some groups.

        Where norms stand first, the stream is what went in and what was added so far; otherwise what the group reads.

        Args:
            layer: The layer to run.
            hidden: What goes in.
            number: The layer's number.
            place: The batch's number, for what else the layer is given.
            groups: The layer's groups up to the one to look at.
        """
        *earlier, group = groups
        found: dict[str, Tensor] = {}
        added: list[Tensor] = []

        def note_writer(module: nn.Module, args: Any) -> None:
            found.setdefault("stream", args[0])  # DeBERTa then projects positions with the same layer

        def note_reader(module: nn.Module, args: Any, output: Tensor) -> None:
            found.update(inputs=args[0], output=output)
            raise _StopHere

        def note_earlier(module: nn.Module, args: Any, output: Tensor) -> None:
            added.append(output)

        def inside(name: str) -> nn.Module:
            return layer.get_submodule(name.removeprefix(self.prefixes[number]))

        handles = [
            inside(group.writers[0].module).register_forward_pre_hook(note_writer),
            inside(group.reader.module).register_forward_hook(note_reader),
            *(inside(one.reader.module).register_forward_hook(note_earlier) for one in earlier),
        ]
        try:
            with suppress(_StopHere):
                self.calls[place][number].run(layer, hidden)
        finally:
            for handle in handles:
                handle.remove()
        stream = sum(added, start=hidden) if self.blocks.norm_first else found["stream"]
        return Seen(found["inputs"], found["output"], stream)


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
