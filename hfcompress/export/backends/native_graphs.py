"""What is traced of a model: which graphs, under which file names, with which inputs, outputs and named axes.

The names are Optimum's and transformers.js's.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from hfcompress.tasks import Task

Axes = dict[str, dict[int, str]]
"""Name of each free axis, by input or output."""

_PAST, _PRESENT = "past_key_values", "present"
_TEXT = {0: "batch_size", 1: "sequence_length"}
_SOURCE = {0: "batch_size", 1: "encoder_sequence_length"}
_TARGET = {0: "batch_size", 1: "decoder_sequence_length"}
_IMAGE = {0: "batch_size", 1: "num_channels", 2: "height", 3: "width"}
_WITH_PAST = "past_sequence_length + sequence_length"
_TARGET_WITH_PAST = "past_decoder_sequence_length + decoder_sequence_length"
_OUTPUTS = ("logits", "start_logits", "end_logits", "last_hidden_state")

# Sizes to trace with: no two are alike and none is 0 or 1, so that no axis is taken for another or for a constant.
_BATCH, _LENGTH, _PAST_LENGTH, _SOURCE_LENGTH, _CACHED = 2, 5, 3, 11, 4


@dataclass
class Graph:
    """One graph to trace.

    Args:
        file: The file's name.
        module: Called with `inputs` by name, dots as `__`; returns tensors by name.
        inputs: Examples by name.
        axes: Names of the free axes of inputs and outputs; other axes are constants.
    """

    file: str
    module: nn.Module
    inputs: dict[str, Tensor]
    axes: Axes


def graphs_of(model: PreTrainedModel, task: Task) -> list[Graph]:
    """Return the graphs that a model becomes for a task."""
    if model.config.is_encoder_decoder and task.name == "text2text-generation":
        return [_encoder(model), _decoder(model)]
    if task.name == "text-generation":
        return [_language_model(model)]
    if model.main_input_name == "pixel_values":
        return [_of_images(model, task)]
    return [_of_texts(model)]


def argument(name: str) -> str:
    """Return an input's name as that of a Python argument."""
    return name.replace(".", "__")


class _Named(nn.Module):
    """A model with the config where exporters look for it."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.config: PretrainedConfig = model.config


class Whole(_Named):
    """A model whose answers are all that comes out: no cache, no hidden states."""

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """Return the answers by name."""
        found = self.model(**inputs)
        return {name: found[name] for name in _OUTPUTS if found.get(name) is not None}


class CachedDecoder(_Named):
    """A language model that takes and returns the keys and values of earlier tokens, of which there may be none."""

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """Return `logits` and `present.N.key`, `present.N.value`."""
        cache = _cache(inputs, "")
        known = {name: value for name, value in inputs.items() if not name.startswith(_PAST)}
        logits = self.model(**known, past_key_values=cache, use_cache=True).logits
        return {"logits": logits, **_presents(cache, "")}


class CachedSeq2SeqDecoder(_Named):
    """The decoder of an encoder-decoder: one graph for the first token and for all that follow.

    The cache of cross-attention is empty at first and whole afterwards. What it lacks is computed from the encoder's
    states behind its end: all of them at first, none afterwards. So one graph serves both, without branches, and tools
    that cannot look into branches, such as quantizers, see all of it.
    """

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """Return `logits` and `present.N.{decoder,encoder}.{key,value}`."""
        from transformers import EncoderDecoderCache
        from transformers.modeling_outputs import BaseModelOutput

        own, cross = _cache(inputs, "__decoder"), _cache(inputs, "__encoder")
        both = EncoderDecoderCache(own, cross)
        both.is_updated = dict.fromkeys(range(len(cross.layers)), False)  # so that the missing part is computed
        states, mask = inputs["encoder_hidden_states"], inputs["encoder_attention_mask"]
        missing: Any = states[:, cross.layers[0].keys.shape[2] :]
        # Four axes: taken as it is, though the states are cut.
        hidden = (1 - mask[:, None, None, :].to(states.dtype)) * torch.finfo(states.dtype).min
        logits = self.model(
            decoder_input_ids=inputs["input_ids"],
            encoder_outputs=BaseModelOutput(last_hidden_state=missing),
            attention_mask=hidden,
            past_key_values=both,
            use_cache=True,
        ).logits
        return {"logits": logits, **_by_layer(_presents(own, ".decoder"), _presents(cross, ".encoder"))}


def _cache(inputs: Mapping[str, Tensor], part: str) -> Any:
    """Build a cache from the inputs that hold one."""
    from transformers.cache_utils import DynamicCache, DynamicLayer

    cache = DynamicCache()
    cache.layers = []
    while (key := inputs.get(f"{_PAST}__{len(cache.layers)}{part}__key")) is not None:
        layer = DynamicLayer()
        layer.keys, layer.values = key, inputs[f"{_PAST}__{len(cache.layers)}{part}__value"]
        layer.dtype, layer.device, layer.is_initialized = key.dtype, key.device, True
        cache.layers.append(layer)
    return cache


def _presents(cache: Any, part: str) -> dict[str, Tensor]:
    """Return a cache's tensors by the names that they have as outputs."""
    found = {}
    for index, layer in enumerate(cache.layers):
        found[f"{_PRESENT}.{index}{part}.key"] = layer.keys
        found[f"{_PRESENT}.{index}{part}.value"] = layer.values
    return found


def _pasts(cache: Any, part: str, length: int) -> dict[str, Tensor]:
    """Return examples of a cache's tensors by the names that they have as inputs, `(batch, heads, length, size)`."""
    found = {}
    for index, layer in enumerate(cache.layers):
        for name, tensor in (("key", layer.keys), ("value", layer.values)):
            found[f"{_PAST}.{index}{part}.{name}"] = torch.randn(_BATCH, tensor.shape[1], length, tensor.shape[3])
    return found


def _by_layer(own: dict[str, Tensor], cross: dict[str, Tensor]) -> dict[str, Tensor]:
    """Join the caches of a decoder layer by layer, as Optimum's runtime counts on it."""
    return dict(sorted({**own, **cross}.items(), key=lambda item: int(item[0].split(".")[1])))


def _cache_axes(names: list[str], length: str) -> Axes:
    """Name the axes of a cache's tensors."""
    return {name: {0: "batch_size", 2: length} for name in names}


def _tokens(model: PreTrainedModel, length: int) -> Tensor:
    """Return examples of tokens, `(batch, length)`, that end where a text ends."""
    end = getattr(model.config, "eos_token_id", None)
    end = end[0] if isinstance(end, list) else end
    tokens = torch.full((_BATCH, length), model.config.vocab_size // 2)
    if end is not None:
        tokens[:, -1] = end
    return tokens


def _of_texts(model: PreTrainedModel) -> Graph:
    """An encoder, or a decoder that does not write, with any head."""
    takes = inspect.signature(model.forward).parameters
    tokens = _tokens(model, _LENGTH)
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    if "token_type_ids" in takes and (getattr(model.config, "type_vocab_size", None) or 0) > 1:
        inputs["token_type_ids"] = torch.zeros_like(tokens)
    # Without a head an encoder-decoder has to be told what its decoder reads; with one it reads the text again.
    if model.config.is_encoder_decoder and type(model).__name__.endswith("Model") and "decoder_input_ids" in takes:
        axes = dict.fromkeys(inputs, _SOURCE)
        inputs["decoder_input_ids"] = _tokens(model, _PAST_LENGTH)
        return Graph(
            "model.onnx", Whole(model), inputs, {**axes, "decoder_input_ids": _TARGET, "last_hidden_state": _TARGET}
        )
    return Graph("model.onnx", Whole(model), inputs, {**dict.fromkeys([*inputs, *_OUTPUTS], _TEXT)})


def _of_images(model: PreTrainedModel, task: Task) -> Graph:
    """A model that reads images."""
    pixels = (
        task.example_inputs(model.config, _BATCH, 0)["pixel_values"] if task.processor == "image_processor" else None
    )
    if pixels is None:
        size = getattr(model.config, "image_size", 224)
        pixels = torch.rand(_BATCH, getattr(model.config, "num_channels", 3), size, size)
    batch = {0: "batch_size"}
    return Graph(
        "model.onnx",
        Whole(model),
        {"pixel_values": pixels},
        {"pixel_values": _IMAGE, "logits": batch, "last_hidden_state": batch},
    )


def _language_model(model: PreTrainedModel) -> Graph:
    """A decoder that writes, with its cache."""
    tokens = _tokens(model, _LENGTH)
    with torch.no_grad():
        cache = model(input_ids=tokens, use_cache=True).past_key_values
    cache = getattr(cache, "self_attention_cache", cache)
    inputs = {"input_ids": tokens, "attention_mask": torch.ones(_BATCH, _PAST_LENGTH + _LENGTH, dtype=torch.long)}
    axes = {"input_ids": _TEXT, "attention_mask": {0: "batch_size", 1: _WITH_PAST}, "logits": _TEXT}
    if "position_ids" in inspect.signature(model.forward).parameters:
        inputs["position_ids"] = torch.arange(_PAST_LENGTH, _PAST_LENGTH + _LENGTH).repeat(_BATCH, 1)
        axes["position_ids"] = _TEXT
    pasts, presents = _pasts(cache, "", _PAST_LENGTH), list(_presents(cache, ""))
    axes |= _cache_axes(list(pasts), "past_sequence_length") | _cache_axes(presents, _WITH_PAST)
    return Graph("model.onnx", CachedDecoder(model), {**inputs, **pasts}, axes)


def _encoder(model: PreTrainedModel) -> Graph:
    """The encoder of an encoder-decoder."""
    get_encoder: Any = model.get_encoder
    encoder: PreTrainedModel = get_encoder()
    tokens = _tokens(model, _SOURCE_LENGTH)
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    axes = dict.fromkeys([*inputs, "last_hidden_state"], _SOURCE)
    return Graph("encoder_model.onnx", Whole(encoder), inputs, axes)


def _decoder(model: PreTrainedModel) -> Graph:
    """The decoder of an encoder-decoder, with its caches."""
    source, target = _tokens(model, _SOURCE_LENGTH), _tokens(model, _LENGTH)
    with torch.no_grad():
        found = model(input_ids=source, decoder_input_ids=target, use_cache=True)
    own, cross = found.past_key_values.self_attention_cache, found.past_key_values.cross_attention_cache
    inputs = {
        "input_ids": target,
        "encoder_attention_mask": torch.ones_like(source),
        "encoder_hidden_states": found.encoder_last_hidden_state,
        **_by_layer(_pasts(own, ".decoder", _PAST_LENGTH), _pasts(cross, ".encoder", _CACHED)),
        # Of no use here, but what Optimum and transformers.js know such a decoder by, and give it.
        "use_cache_branch": torch.ones(1, dtype=torch.bool),
    }
    axes: Axes = {"input_ids": _TARGET, "logits": _TARGET}
    axes |= dict.fromkeys(["encoder_attention_mask", "encoder_hidden_states"], _SOURCE)
    axes |= _cache_axes([name for name in inputs if ".decoder." in name], "past_decoder_sequence_length")
    # Not `encoder_sequence_length`, as Optimum has it: it is 0 at first, and axes of one name have one size.
    axes |= _cache_axes([name for name in inputs if ".encoder." in name], "past_encoder_sequence_length")
    axes |= _cache_axes(list(_presents(own, ".decoder")), _TARGET_WITH_PAST)
    axes |= _cache_axes(list(_presents(cross, ".encoder")), "encoder_sequence_length")
    return Graph("decoder_model_merged.onnx", CachedSeq2SeqDecoder(model), inputs, axes)
