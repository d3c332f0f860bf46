"""Recording the queries, keys and values of attention while a model runs: what relation losses read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from hfcompress.errors import Fault, ModelError
from hfcompress.modeling.blocks import Blocks
from hfcompress.modeling.emptied import Emptied
from hfcompress.modeling.families import blocks_of, stacks_of
from hfcompress.modeling.layer_patterns import layer_groups, stack_depths

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PretrainedConfig, PreTrainedModel


class Projections(NamedTuple):
    """A layer's projections of its input, each `(batch, seq, heads, head size)`.

    They are as the linear layers give them: before norms of heads (Qwen3) and rotary positions. Under grouped-query
    attention keys and values have fewer heads than queries.
    """

    query: Tensor
    key: Tensor
    value: Tensor


def attention_heads(config: PretrainedConfig) -> int:
    """Return the number of attention heads (those of the queries); of an encoder and a decoder the encoder's.

    Raises:
        ModelError: The architecture has no attention.
    """
    alone = getattr(config, "is_decoder", False) and hasattr(config, "decoder_attention_heads")
    heads = getattr(config, "decoder_attention_heads" if alone else "num_attention_heads", None)
    if heads is None:
        fix = "Choose losses on logits or hidden states."
        raise ModelError(Fault("", f"{config.model_type} has no attention: it has no queries, keys and values.", fix))
    return int(heads)


def key_value_heads(config: PretrainedConfig) -> int:
    """Return the number of heads that the keys and values have; fewer than the queries' when they share them.

    Raises:
        ModelError: The architecture has no attention.
    """
    heads = attention_heads(config)
    return int(getattr(config, "num_key_value_heads", None) or heads)


def head_size(config: PretrainedConfig) -> int:
    """Return the width of one attention head, which pruning leaves as it is; `layer_head_sizes` of each layer's own.

    Raises:
        ModelError: The architecture has no attention.
    """
    heads = attention_heads(config)
    # T5 says it apart from the model's width; MobileBERT's attention works at the width inside the bottlenecks.
    own = getattr(config, "d_kv", None) or getattr(config, "head_dim", None)
    width = getattr(config, "true_hidden_size", None) or config.hidden_size
    return int(own or width // heads)


def layer_heads(config: PretrainedConfig) -> list[int]:
    """Return the number of (query) heads that each layer has, which pruning makes unequal.

    Of an encoder and a decoder they are the encoder's layers.

    Raises:
        ModelError: The architecture has no attention, or no row in the block table.
    """
    heads = attention_heads(config)
    entries = _layer_entries(config)
    return [heads if entry is None else heads // entry["of"] * len(entry["kept"]) for entry in entries]


def layer_head_sizes(config: PretrainedConfig) -> list[int]:
    """Return the width of each layer's heads, which factorization makes unequal.

    Of an encoder and a decoder they are the encoder's layers.

    Raises:
        ModelError: The architecture has no attention, or no row in the block table.
    """
    size = head_size(config)
    return [size if entry is None else entry.get("width", size) for entry in _layer_entries(config)]


def heads_by_width(config: PretrainedConfig) -> dict[int, int]:
    """Return how many heads an attention has by the width of all of them together; 0 where that does not tell.

    Empty where all heads are as wide as the config says.

    Raises:
        ModelError: The architecture has no attention.
    """
    from hfcompress.modeling.structure import structure_of

    heads, size, entries = attention_heads(config), head_size(config), list(structure_of(config).heads.values())
    if not any("width" in entry for entry in entries):
        return {}
    found = {heads * size: {heads}}
    for entry in entries:
        count = heads // entry["of"] * len(entry["kept"])
        found.setdefault(count * entry.get("width", size), set()).add(count)
    return {width: counts.pop() if len(counts) == 1 else 0 for width, counts in found.items()}


def _layer_entries(config: PretrainedConfig) -> list[dict[str, Any] | None]:
    """Return what the manifest says of each layer's heads."""
    from hfcompress.modeling.structure import structure_of

    blocks, kept = blocks_of(config.model_type), structure_of(config).heads
    depth = stack_depths(config)[0]
    is_decoder = not config.is_encoder_decoder and getattr(config, "is_decoder", False)
    stack = blocks.decoder if blocks.decoder is not None and is_decoder else blocks
    numbers = layer_groups(config) if blocks.shared else list(range(depth))
    return [kept.get(f"{stack.layers}.{number}.heads") for number in numbers]


def hidden_width(config: PretrainedConfig) -> int:
    """Return the width of the hidden states, of which `keep_hidden` may have left fewer than the config says."""
    from hfcompress.modeling.structure import structure_of

    modules = structure_of(config).modules
    if modules:
        blocks = blocks_of(config.model_type)
        entry = modules.get(f"{blocks.layers}.0.{blocks.attention_output}", {})
        width = entry.get("constant") or next(iter(entry.get("shape", ())), None)
        if width is not None and blocks.fused is None:  # those of GPT-2 stand the other way round
            return int(width)
    return int(config.hidden_size)


class RecordedProjections(Mapping[int, Projections]):
    """The projections of the latest forward pass by layer: `recorded[3].query`."""

    def __init__(self, config: PretrainedConfig, blocks: Blocks, layers: Iterable[int]) -> None:
        self._config, self._blocks = config, blocks
        self._calls: dict[tuple[int, str], list[Tensor]] = {}
        depth = getattr(config, str(blocks.depth))
        wrong = sorted(layer for layer in layers if not 0 <= layer < depth)
        if wrong:
            fix = f"Its {depth} layers are counted from 0 to {depth - 1}."
            raise ModelError(Fault("layers", f"the model has no layer {', '.join(map(str, wrong))}.", fix))
        number = layer_groups(config) if blocks.shared else range(depth)
        # Where it stands in the list of layers, and which of the calls there is its own.
        self._place = {layer: (number[layer], number[:layer].count(number[layer])) for layer in layers}

    @property
    def modules(self) -> set[tuple[int, str]]:
        """The linear layers to listen to: number in the list of layers, and name."""
        names = [self._blocks.fused] if self._blocks.fused else [getattr(self._blocks, part) for part in _PARTS]
        return {(number, str(name)) for number, _ in self._place.values() for name in names}

    def clear(self, *_: Any) -> None:
        """Forget an earlier forward pass."""
        self._calls.clear()

    def keep(self, number: int, name: str, module: nn.Module, output: Tensor) -> None:
        """Keep what a linear layer gave.

        Only its first calls count, one for each layer that shares it: DeBERTa also projects relative positions, and
        gradient checkpointing calls again in the backward pass.
        """
        from torch import nn

        calls = self._calls.setdefault((number, name), [])
        if len(calls) <= max(call for place, call in self._place.values() if place == number):
            # SqueezeBERT's convolutions keep the tokens last.
            calls.append(output.transpose(1, 2) if isinstance(module, nn.Conv1d) else output)

    def __getitem__(self, layer: int) -> Projections:
        number, call = self._place[layer]
        fused = self._blocks.fused
        if fused:
            outputs = [*self._output(layer, number, fused, call).chunk(3, dim=-1)]
        else:
            outputs = [self._output(layer, number, getattr(self._blocks, part), call) for part in _PARTS]
        size = layer_head_sizes(self._config)[layer]
        return Projections(*(output.unflatten(-1, (-1, size)) for output in outputs))

    def __iter__(self) -> Iterator[int]:
        return iter(self._place)

    def __len__(self) -> int:
        return len(self._place)

    def _output(self, layer: int, number: int, name: str, call: int) -> Tensor:
        calls = self._calls.get((number, name), [])
        if call >= len(calls):
            problem = f"layer {layer} did not run while its projections were recorded."
            raise ModelError(Fault("layers", problem, "Run the model first; set its LayerDrop to 0."))
        if calls[call].dim() != 3:
            problem = "the model's attention leaves padding out, so its tokens stand in no rows."
            raise ModelError(Fault("", problem, "Load it with attn_implementation='sdpa'."))
        return calls[call]


_PARTS = ("query", "key", "value")


@contextmanager
def record_projections(model: PreTrainedModel, layers: Iterable[int]) -> Iterator[RecordedProjections]:
    """Record the queries, keys and values of some layers' self-attention, with gradient, under any attention kernel.

    Args:
        model: The model that runs inside the `with`; of an encoder and a decoder, the encoder is recorded.
        layers: The layers to record, counted from 0.

    Example:
        >>> with record_projections(model, [11]) as recorded:  # doctest: +SKIP
        ...     model(**batch)
        ...     query, key, value = recorded[11]

    Raises:
        ModelError: The model has no attention or no such layer, or has no row in the block table.
    """
    attention_heads(model.config)
    blocks, modules = stacks_of(model)[0]
    recorded = RecordedProjections(model.config, blocks, tuple(layers))
    handles = [part.register_forward_pre_hook(recorded.clear) for part in {model, model.base_model}]
    try:
        for number, name in recorded.modules:
            module = modules[number].get_submodule(name)
            if isinstance(module, Emptied):
                problem = f"pruning left layer {number} no heads: it has no queries, keys and values."
                raise ModelError(Fault("layers", problem, "Choose another layer."))

            def keep(module: nn.Module, args: Any, output: Tensor, place: tuple[int, str] = (number, name)) -> None:
                recorded.keep(*place, module, output)

            handles.append(module.register_forward_hook(keep))
        yield recorded
    finally:
        for handle in handles:
            handle.remove()
