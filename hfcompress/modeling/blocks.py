"""A row of the block table: where a family of architectures keeps its parts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Blocks:
    """Where a family keeps its parts.

    Args:
        layers: The list of layers, from the base model (`model.base_model`).
        embeddings: The embeddings of words or patches, from the base model.
        depth: The config's name for the number of layers; None where none can be left out (convolutions).
        query, key, value, attention_output: The attention's linear layers, from one layer.
        ffn: The feed-forward network's linear layers from input to output, from one layer. Where variants of a family
            differ (T5's gated one), those of all variants: a model has some of them.
        ffn_width: The config's name for the width between its feed-forward network's layers.
        fused: One linear layer that gives query, key and value side by side; then those three are None.
        bottleneck: Linear layers that narrow the hidden state at a layer's begin and widen it at its end.
        cross_attention: Query, key, value and output of a decoder layer's attention to the encoder.
        also_heads: What else gives each head its numbers, from one layer (DeBERTa's projections of positions).
        position_bias: All layers add one bias by position to their scores, with a value for each head.
        norm_first: A layer's norms stand before attention and feed-forward network, so that both add to an untouched
            stream of hidden states.
        also_embeddings: What else stands before the layers, from the base model.
        first_layer: Weights that only the first layer holds, and all use, from one layer.
        starts_alone: Only the first layer can stand first: it lacks a part that the others have.
        shared: The list holds groups of weights that several layers share, not layers.
        decoder: The row of the second stack; `layers` is then the encoder's.
    """

    layers: str
    embeddings: str
    depth: str | None
    query: str | None = None
    key: str | None = None
    value: str | None = None
    attention_output: str | None = None
    ffn: tuple[str, ...] = ()
    ffn_width: str = "intermediate_size"
    earlier_ffns: tuple[tuple[str, ...], ...] = ()
    fused: str | None = None
    bottleneck: tuple[str, ...] = ()
    cross_attention: tuple[str, ...] = ()
    also_heads: tuple[str, ...] = ()
    position_bias: bool = False
    norm_first: bool = False
    also_embeddings: tuple[str, ...] = ()
    first_layer: tuple[str, ...] = ()
    starts_alone: bool = False
    shared: bool = False
    decoder: Blocks | None = None

    @property
    def stacks(self) -> tuple[Blocks, ...]:
        """The rows of its stacks of layers: one, or encoder and decoder."""
        return (self,) if self.decoder is None else (self, self.decoder)

    @property
    def feed_forwards(self) -> tuple[tuple[str, ...], ...]:
        """Its feed-forward networks in the order in which a layer runs them, each from input to output."""
        return (*self.earlier_ffns, self.ffn) if self.ffn else ()

    @property
    def ffn_layers(self) -> tuple[str, ...]:
        """The linear layers of all its feed-forward networks."""
        return tuple(name for network in self.feed_forwards for name in network)

    @property
    def attention(self) -> tuple[str, ...]:
        """The linear layers of a layer's attention, whichever it has."""
        names = (self.query, self.key, self.value, self.fused, self.attention_output, *self.cross_attention)
        return tuple(name for name in names if name)
