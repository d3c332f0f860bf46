"""What can be taken out of a layer: heads and neurons, each with every weight that belongs to it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from hfcompress.errors import Fault, ModelError
from hfcompress.modeling.blocks import Blocks
from hfcompress.modeling.emptied import Emptied
from hfcompress.modeling.families import FAMILIES, no_row, stacks_of
from hfcompress.modeling.linear import channels_in, channels_out, fan_in, fan_out
from hfcompress.modeling.low_rank import reader_name, writer_name

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

Kind = Literal["heads", "neurons", "filters"]


@dataclass(frozen=True)
class Channels:
    """The channels of one layer that belong to a group's units.

    Args:
        module: The layer's name in the model.
        width: How many channels in a row a unit has.
        copies: How often the units stand one after another (three times where query, key and value are fused, twice
            where a gate stands beside what it gates, once for each group of a convolution).
    """

    module: str
    width: int = 1
    copies: int = 1

    @property
    def of_one_unit(self) -> int:
        """How many channels a unit has in all."""
        return self.width * self.copies

    def of(self, units: Sequence[int], total: int) -> Tensor:
        """Return the numbers `(channels,)` of the channels that some units have.

        Args:
            units: The units, counted from 0.
            total: How many units the group has.
        """
        inside = torch.tensor(units, dtype=torch.long)[:, None] * self.width + torch.arange(self.width)
        starts = torch.arange(self.copies) * (total * self.width)
        return (starts[:, None] + inside.flatten()).flatten()

    def spread(self, values: Tensor) -> Tensor:
        """Return the value of each channel `(…, channels)` from those of the units `(…, units)`."""
        wide = values.repeat_interleave(self.width, dim=-1)
        return wide.repeat(*(1,) * (wide.dim() - 1), self.copies)


@dataclass(frozen=True)
class Group:
    """Units that can be removed one by one, and the channels that go with each.

    A unit is removed exactly when its channels are left out of the outputs of `writers` and of the inputs of `readers`;
    to silence it, it is enough to set its channels of a reader's input to 0.

    Args:
        name: Place and kind, from the base model: `encoder.layer.3.heads`.
        kind: What the units are. Heads that share keys and values are one unit, as are the heads or neurons that stand
            at the same place of a grouped convolution.
        units: How many there are now.
        writers: What gives the units their numbers; outputs.
        readers: What reads them; inputs.
        between: What works on each channel alone in between: batch norms, depthwise convolutions.
    """

    name: str
    kind: Kind
    units: int
    writers: tuple[Channels, ...]
    readers: tuple[Channels, ...]
    between: tuple[Channels, ...] = ()

    @property
    def reader(self) -> Channels:
        """The layer whose input the units are, where there is one alone."""
        (only,) = self.readers
        return only

    def weights(self, model: PreTrainedModel) -> int:
        """Return how many weights one unit has, without biases."""
        given = sum(one.of_one_unit * fan_in(model.get_submodule(one.module)) for one in self.writers)
        return given + sum(one.of_one_unit * fan_out(model.get_submodule(one.module)) for one in self.readers)

    def parameters(self, model: PreTrainedModel) -> int:
        """Return how many parameters one unit has: weights, and the biases that give it."""
        biased = [one for one in self.writers if model.get_submodule(one.module).bias is not None]
        return self.weights(model) + sum(one.of_one_unit for one in biased)


def groups_of(model: PreTrainedModel, kinds: Iterable[Kind] = ("heads", "neurons")) -> list[Group]:
    """Return all groups of a model whose units can be removed, layer by layer; emptied ones are left out.

    Raises:
        ModelError: The architecture has no row in the block table, or nothing of these kinds.
    """
    from hfcompress.modeling.filters import filter_groups

    if model.config.model_type not in FAMILIES:
        instead = "Methods that prune single weights by name need none: magnitude, wanda or sparsegpt with modules."
        raise no_row(model.config.model_type, instead)
    wanted = set(kinds)
    found = [group for group in (*_all_groups(model), *filter_groups(model)) if group.kind in wanted]
    if not found:
        problem = f"{model.config.model_type} has no {' or '.join(sorted(wanted))} that could be removed."
        raise ModelError(Fault("", problem, "Choose another method."))
    return found


@dataclass(frozen=True)
class Place:
    """Where a layer keeps the linear layers of one group, emptied or not.

    Args:
        group: The group's name.
        kind: What its units are.
        layer: The layer's name in the model.
        parts: The linear layers by their names in the layer, the one that reads the others last.
    """

    group: str
    kind: Kind
    layer: str
    parts: dict[str, nn.Module]

    @property
    def reader(self) -> nn.Module:
        """The layer that reads what the others give."""
        return list(self.parts.values())[-1]


def places_of(model: PreTrainedModel) -> Iterator[Place]:
    """Return where a model keeps the groups of the block table, layer by layer."""
    names = {id(module): name for name, module in model.named_modules()}
    base = "" if model.base_model is model else f"{model.base_model_prefix}."
    for blocks, layers in stacks_of(model):
        for layer in layers:
            modules, place = dict(layer.named_modules()), names[id(layer)]
            for parts, kind, name in _parts_of(blocks):
                present = {part: modules[part] for part in parts if part in modules}
                if present:
                    yield Place(f"{place.removeprefix(base)}.{name}", kind, place, present)


def attention_of(model: PreTrainedModel, place: Place) -> nn.Module | None:
    """Return the module that counts an attention's heads; None for what is no attention."""
    first = next(iter(place.parts))
    if place.kind != "heads" or "." not in first:
        return None
    return model.get_submodule(f"{place.layer}.{first.rpartition('.')[0]}")


def _all_groups(model: PreTrainedModel) -> Iterator[Group]:
    for place in places_of(model):
        group = _group(model, place)
        if group is not None:
            yield group


def _parts_of(blocks: Blocks) -> Iterator[tuple[tuple[str, ...], Kind, str]]:
    """Return a layer's linear layers by group, the reader last, with the group's kind and the end of its name."""
    own = (blocks.fused,) if blocks.fused else (blocks.query, blocks.key, blocks.value)
    if blocks.attention_output:
        names = (*own, *blocks.also_heads, blocks.attention_output)
        yield tuple(name for name in names if name), "heads", "heads"
    if blocks.cross_attention:
        yield blocks.cross_attention, "heads", "cross_heads"
    for number, network in enumerate(blocks.feed_forwards):
        last = number == len(blocks.feed_forwards) - 1
        yield network, "neurons", "neurons" if last else f"neurons_{number}"


def _group(model: PreTrainedModel, place: Place) -> Group | None:
    """Return the group that stands at a place; None if it was emptied."""
    *writers, (last, reader) = place.parts.items()
    if isinstance(reader, Emptied):
        return None
    copies = math.lcm(*(getattr(module, "groups", 1) for module in place.parts.values()))
    attention = attention_of(model, place)
    unit = 1 if attention is None else head_width(attention) * query_groups(attention)
    width_in = channels_in(reader)
    if width_in % (unit * copies):
        return None
    units = width_in // (unit * copies)
    return Group(
        place.group,
        place.kind,
        units,
        tuple(_channels(f"{place.layer}.{part}", module, units, unit, copies) for part, module in writers),
        (Channels(reader_name(f"{place.layer}.{last}", reader), unit, copies),),
    )


def _channels(name: str, module: nn.Module, units: int, unit: int, copies: int) -> Channels:
    """Return a writer's channels: it may give the units several times over, or fewer channels each (shared keys)."""
    given = channels_out(module)
    side_by_side = given // (units * copies * unit) if given >= units * copies * unit else 1
    width = given // (units * copies * side_by_side)
    return Channels(writer_name(name, module), width, copies * side_by_side)


_HEAD_WIDTHS = ("attention_head_size", "head_dim", "key_value_proj_dim")


def head_width(attention: nn.Module) -> int:
    """Return the width of one head of an attention module, which pruning leaves as it is."""
    return next(int(getattr(attention, name)) for name in _HEAD_WIDTHS if hasattr(attention, name))


def set_head_width(attention: nn.Module, width: int) -> None:
    """Make an attention module count on heads of another width, as if it had been built with it."""
    before = head_width(attention)
    for name in _HEAD_WIDTHS:
        if hasattr(attention, name):
            setattr(attention, name, width)
    if hasattr(attention, "scaling") and scales_scores(attention):
        attention.scaling *= (before / width) ** 0.5


def scales_scores(attention: nn.Module) -> bool:
    """Say whether an attention module divides its scores by the root of its heads' width; T5's does not."""
    return not hasattr(attention, "key_value_proj_dim") and bool(getattr(attention, "scale_attn_weights", True))


def query_groups(attention: nn.Module) -> int:
    """Return how many query heads share one head of keys and values."""
    return int(getattr(attention, "num_key_value_groups", 1))
