"""Filters: the channels of convolutional networks that can be removed, with all layers that shortcuts tie together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import nn

from hfcompress.modeling.groups import Channels, Group
from hfcompress.modeling.linear import channels_out
from hfcompress.modeling.low_rank import reader_name, writer_name

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass
class _Stream:
    """Channels on their way through a network: who writes them, who works on each alone, who reads them."""

    writers: list[str]
    between: list[str] = field(default_factory=list)
    readers: list[str] = field(default_factory=list)


class _Walk:
    """Follows the channels from layer to layer, as a family's forward pass does."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.modules = dict(model.named_modules())
        self.base = "" if model.base_model is model else f"{model.base_model_prefix}."
        self.streams: list[_Stream] = []

    def through(self, layer: str, stream: _Stream | None = None, depthwise: bool = False) -> _Stream:
        """Pass a stream (None for the image) through a convolution and its batch norm; return what comes out."""
        convolution, norm = f"{self.base}{layer}.convolution", f"{self.base}{layer}.normalization"
        if stream is not None and depthwise:
            stream.between += [convolution, norm]
            return stream
        if stream is not None:
            stream.readers.append(convolution)
        self.streams.append(_Stream([convolution], [norm]))
        return self.streams[-1]

    def add(self, stream: _Stream, other: _Stream) -> _Stream:
        """Add two streams, channel by channel: they are one from here on, and always were."""
        stream.writers += other.writers
        stream.between += other.between
        stream.readers += other.readers
        self.streams = [known for known in self.streams if known is not other]
        return stream

    def end(self, stream: _Stream) -> list[Group]:
        """Let the classifier read a stream and return the groups.

        Without a classifier the last stream is the model's answer, whose width must stay.
        """
        name = next((name for name in ("classifier.1", "classifier") if name in self.modules), None)
        if name is not None and isinstance(self.modules[name], nn.Linear):
            stream.readers.append(name)
        else:
            self.streams = [known for known in self.streams if known is not stream]
        return [self._group(stream) for stream in self.streams]

    def _group(self, stream: _Stream) -> Group:
        first = stream.writers[0]
        place = first.removeprefix(self.base).removesuffix(".convolution")
        writers = tuple(Channels(writer_name(name, self.modules[name])) for name in stream.writers)
        readers = tuple(Channels(reader_name(name, self.modules[name])) for name in stream.readers)
        between = tuple(map(Channels, stream.between))
        return Group(f"{place}.filters", "filters", channels_out(self.modules[first]), writers, readers, between)


def filter_groups(model: PreTrainedModel) -> list[Group]:
    """Return the groups of filters of a ResNet or MobileNet, in the order of their first layers; [] for other families.

    Wherever a shortcut adds two layers' outputs, these share their channels and form one group: the width of a stage.
    A group's name is that of the first layer that writes it: `encoder.stages.0.layers.0.layer.0.filters`. What a model
    without a classifier answers with is no group. A backbone answers with each stage, so that it has none.
    """
    family = _FAMILIES.get(model.config.model_type)
    whole = model.base_model is not model or type(model).__name__.endswith("Model")
    answers_with_images = type(model).__name__.endswith("ForSemanticSegmentation")
    if family is None or not whole or answers_with_images:
        return []
    return family(_Walk(model))


def _resnet(walk: _Walk) -> list[Group]:
    stream = walk.through("embedder.embedder")
    for layer in _children(walk, "encoder.stages", "layers"):
        inside = stream
        for convolution in _numbered(walk, f"{layer}.layer"):
            inside = walk.through(convolution, inside)
        if f"{walk.base}{layer}.shortcut.convolution" in walk.modules:
            stream = walk.through(f"{layer}.shortcut", stream)
            stream = walk.add(inside, stream)
        else:
            stream = walk.add(stream, inside)
    return walk.end(stream)


def _mobilenet_v1(walk: _Walk) -> list[Group]:
    stream = walk.through("conv_stem")
    for place, layer in enumerate(_numbered(walk, "layer")):
        stream = walk.through(layer, stream, depthwise=place % 2 == 0)
    return walk.end(stream)


def _mobilenet_v2(walk: _Walk) -> list[Group]:
    stream = walk.through("conv_stem.first_conv")
    if f"{walk.base}conv_stem.expand_1x1.convolution" in walk.modules:
        stream = walk.through("conv_stem.expand_1x1", stream)
    stream = walk.through("conv_stem.conv_3x3", stream, depthwise=True)
    stream = walk.through("conv_stem.reduce_1x1", stream)
    for layer in _numbered(walk, "layer"):
        inside = walk.through(f"{layer}.expand_1x1", stream)
        inside = walk.through(f"{layer}.conv_3x3", inside, depthwise=True)
        inside = walk.through(f"{layer}.reduce_1x1", inside)
        stream = walk.add(stream, inside) if walk.modules[walk.base + layer].use_residual else inside
    return walk.end(walk.through("conv_1x1", stream))


_FAMILIES: dict[str, Callable[[_Walk], list[Group]]] = {
    "resnet": _resnet,
    "mobilenet_v1": _mobilenet_v1,
    "mobilenet_v2": _mobilenet_v2,
}


def _numbered(walk: _Walk, place: str) -> Sequence[str]:
    """Return the names of a list's members, from the base model."""
    return [f"{place}.{name}" for name, _ in walk.modules[walk.base + place].named_children()]


def _children(walk: _Walk, place: str, inner: str) -> Sequence[str]:
    """Return the names of the members of the lists that a list's members hold."""
    return [name for outer in _numbered(walk, place) for name in _numbered(walk, f"{outer}.{inner}")]
