"""Two models side by side, one layer at a time: the one that was, and the one that is being compressed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hfcompress.modeling.blocks import Blocks

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

    def is_like(self, other: _Call) -> bool:
        """Say whether another layer is given the very same."""
        mine, others = (*self.args, *self.kwargs.values()), (*other.args, *other.kwargs.values())
        same = len(mine) == len(others) and all(one is another for one, another in zip(mine, others, strict=True))
        return same and self.kwargs.keys() == other.kwargs.keys()


@dataclass(frozen=True)
class Stop:
    """A linear layer that is looked at on the way.

    Args:
        name: Its name in the model.
        branch: The module that first reads what the layer's outputs are added to; None where they are added to nothing.
    """

    name: str
    branch: str | None = None


@dataclass
class Seen:
    """What was seen of a linear layer.

    Args:
        inputs: What it takes.
        output: What it gives; None where that is not known, or was forgotten.
        stream: What that is added to; None for nothing.
    """

    inputs: Tensor | None
    output: Tensor | None
    stream: Tensor | None


class Walk:
    """A model before and after it is rebuilt, side by side on the same batches, one layer at a time.

    Args:
        model: The model as compressed so far.
        batches: What it is called with.
        blocks: The stack's row of the block table.
        layers: The stack to walk through.
    """

    def __init__(self, model: PreTrainedModel, batches: Sequence[Batch], blocks: Blocks, layers: nn.ModuleList) -> None:
        self.model, self.batches, self.blocks, self.layers = model, batches, blocks, layers
        recorded = _record_all(model, layers, batches)
        self._calls = [calls for calls, _ in recorded]
        self._dense = [hidden for _, hidden in recorded]
        self._now = list(self._dense)
        self._before: list[dict[str, Seen]] = []
        names = {id(module): name for name, module in model.named_modules()}
        self._prefixes = [f"{names[id(layer)]}." for layer in layers]

    def stages(self, number: int, names: Sequence[str]) -> list[list[str]]:
        """Return those of some linear layers that a layer runs, in its order; what reads the same comes together."""
        layer, prefix = self.layers[number], self._prefixes[number]
        own = [name for name in names if name.startswith(prefix)]
        order: list[tuple[str, Tensor]] = []
        handles = []
        for one in own:

            def note(module: nn.Module, args: Any, name: str = one) -> None:
                if all(name != seen for seen, _ in order):
                    order.append((name, args[0]))

            handles.append(layer.get_submodule(one.removeprefix(prefix)).register_forward_pre_hook(note))
        try:
            self._calls[0][number].run(layer, self._now[0])
        finally:
            for handle in handles:
                handle.remove()
        found: list[list[str]] = []
        for place, (name, values) in enumerate(order):
            if place and values is order[place - 1][1]:
                found[-1].append(name)
            else:
                found.append([name])
        return found

    def enter(self, number: int, stops: Sequence[Stop]) -> None:
        """Run a layer as it was, and keep what was seen at its stops, one side of each."""
        self._before = []
        for place in range(len(self.batches)):
            seen, self._dense[place] = self._run(self._dense[place], number, place, stops)
            self._before.append({name: _narrow_side(one) for name, one in seen.items()})

    def before(self, place: int, stop: Stop) -> Seen:
        """Return what was seen at a stop in a batch before anything of the model was changed, once: it is forgotten."""
        return self._before[place].pop(stop.name)

    def now(self, number: int, place: int, stops: Sequence[Stop], wanted: Sequence[Stop]) -> dict[str, Seen]:
        """Return what is to be seen now at some stops that read the same, by name; the layer runs no further.

        Args:
            number: The layer's number.
            place: The batch's number.
            stops: All those of the layer that are run before.
            wanted: Those that come next.
        """
        return self._run(self._now[place], number, place, stops, wanted)[0]

    def leave(self, number: int) -> None:
        """Run a layer as it is now, and take the hidden states to the next one."""
        for place in range(len(self.batches)):
            self._now[place] = self._run(self._now[place], number, place, [])[1]

    def _run(
        self, hidden: Tensor, number: int, place: int, stops: Sequence[Stop], until: Sequence[Stop] = ()
    ) -> tuple[dict[str, Seen], Tensor]:
        """Run a layer on a batch's hidden states; return what was seen at stops, and the next hidden states.

        Where norms stand first, the stream is what went in and what was added so far; otherwise what the branch reads.

        Args:
            hidden: What goes in.
            number: The layer's number.
            place: The batch's number, for what else the layer is given.
            stops: Where to look, in the order of the run.
            until: Stops that read the same, before which to stop; of them is seen what goes in.
        """
        layer, prefix = self.layers[number], self._prefixes[number]
        branches: dict[str, Tensor] = {}
        seen: dict[str, Seen] = {}
        handles = []

        def stream_of(stop: Stop) -> Tensor | None:
            stream = branches.get(stop.name)
            return _sum_of_stream(hidden, seen) if stream is not None and self.blocks.norm_first else stream

        def note_branch(module: nn.Module, args: Any, stop: Stop) -> None:
            branches.setdefault(stop.name, args[0])  # DeBERTa then projects positions with the same layer

        def note(module: nn.Module, args: Any, output: Tensor, stop: Stop) -> None:
            seen[stop.name] = Seen(args[0], output, stream_of(stop))

        def note_and_stop(module: nn.Module, args: Any) -> None:
            seen.update({stop.name: Seen(args[0], None, stream_of(stop)) for stop in until})
            raise _StopHere

        for stop in [*stops, *until]:
            if stop.branch is not None:
                branch = layer.get_submodule(stop.branch.removeprefix(prefix))
                handles.append(branch.register_forward_pre_hook(partial(note_branch, stop=stop)))
        for stop in stops:
            module = layer.get_submodule(stop.name.removeprefix(prefix))
            handles.append(module.register_forward_hook(partial(note, stop=stop)))
        for stop in until[:1]:
            module = layer.get_submodule(stop.name.removeprefix(prefix))
            handles.append(module.register_forward_pre_hook(note_and_stop))
        try:
            with suppress(_StopHere):
                hidden = self._calls[place][number].run(layer, hidden)
        finally:
            for handle in handles:
                handle.remove()
        return seen, hidden


def _narrow_side(seen: Seen) -> Seen:
    """Forget what went in or, where that is less and what came out is added to nothing, what came out."""
    inputs, output = seen.inputs, seen.output
    if seen.stream is None and inputs is not None and output is not None and inputs.numel() < output.numel():
        return Seen(inputs, None, None)
    return Seen(None, output, seen.stream)


def _sum_of_stream(hidden: Tensor, seen: Mapping[str, Seen]) -> Tensor:
    """Return what went into a layer and what was added to it so far."""
    added = (one.output for one in seen.values() if one.stream is not None and one.output is not None)
    return sum(added, start=hidden)


def can_walk(model: PreTrainedModel, blocks: Blocks, layers: nn.ModuleList, batch: Batch) -> bool:
    """Say whether a stack's layers are called one by one, in a way that hooks hear of (SqueezeBERT's are not)."""
    return not blocks.shared and len(_record(model, layers[-1:], batch)[0]) == 1


_Recorded = tuple[list[_Call], Tensor]
"""What each layer is given beside the hidden states, and those that the first one is given."""


def _record_all(model: PreTrainedModel, layers: nn.ModuleList, batches: Sequence[Batch]) -> list[_Recorded]:
    """Run a model on batches; where all layers are given the same in the first, no further than there in the others."""
    recorded = [_record(model, layers, batch) for batch in batches[:1]]
    alike = all(call.is_like(recorded[0][0][0]) for call in recorded[0][0])
    for batch in batches[1:]:
        calls, start = _record(model, layers, batch, only_first=alike)
        recorded.append((calls * len(layers) if alike else calls, start))
    return recorded


def _record(model: PreTrainedModel, layers: nn.ModuleList, batch: Batch, only_first: bool = False) -> _Recorded:
    """Run a model once, or no further than its first layer."""
    calls: list[_Call] = []
    start: list[Tensor] = []

    def note(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        named = "hidden_states" in kwargs
        rest = {name: value for name, value in kwargs.items() if name != "hidden_states"}
        calls.append(_Call(args if named else args[1:], rest, named))
        if not start:
            start.append(kwargs["hidden_states"] if named else args[0])
        if only_first:
            raise _StopHere

    handles = [layer.register_forward_pre_hook(note, with_kwargs=True) for layer in layers]
    # A cache would be filled by every run of a layer.
    options = {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}
    try:
        with suppress(_StopHere):
            model(**batch, **options)
    finally:
        for handle in handles:
            handle.remove()
    return calls, start[0] if start else torch.empty(0)
