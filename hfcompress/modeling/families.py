"""The block table: where each architecture keeps its layers, attention, feed-forward network and embeddings.

One row a family. Everything that looks inside a model (cuts, inspection, relation losses, surgery) reads this table and
nothing else, so a new architecture is a new row.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING

from hfcompress.errors import Fault, ModelError
from hfcompress.modeling.blocks import Blocks as Blocks

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


_BERT = Blocks(
    layers="encoder.layer",
    embeddings="embeddings",
    depth="num_hidden_layers",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attention_output="attention.output.dense",
    ffn=("intermediate.dense", "output.dense"),
)
_BART = Blocks(
    layers="encoder.layers",
    embeddings="shared",
    depth="encoder_layers",
    query="self_attn.q_proj",
    key="self_attn.k_proj",
    value="self_attn.v_proj",
    attention_output="self_attn.out_proj",
    ffn=("fc1", "fc2"),
    ffn_width="encoder_ffn_dim",
    also_embeddings=tuple(
        f"{stack}.{name}"
        for stack in ("encoder", "decoder")
        for name in ("embed_tokens", "embed_positions", "layernorm_embedding")
    ),
)
_BART_DECODER = replace(
    _BART,
    layers="decoder.layers",
    embeddings="decoder.embed_tokens",
    depth="decoder_layers",
    ffn_width="decoder_ffn_dim",
    cross_attention=tuple(f"encoder_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "out_proj")),
)
_T5_FFN = ("wi", "wi_0", "wi_1", "wo")
_T5 = Blocks(
    layers="encoder.block",
    embeddings="shared",
    depth="num_layers",
    query="layer.0.SelfAttention.q",
    key="layer.0.SelfAttention.k",
    value="layer.0.SelfAttention.v",
    attention_output="layer.0.SelfAttention.o",
    ffn=tuple(f"layer.1.DenseReluDense.{name}" for name in _T5_FFN),
    ffn_width="d_ff",
    also_embeddings=("encoder.embed_tokens", "decoder.embed_tokens"),
    first_layer=("layer.0.SelfAttention.relative_attention_bias",),
    position_bias=True,
    norm_first=True,
)
_T5_DECODER = replace(
    _T5,
    layers="decoder.block",
    embeddings="decoder.embed_tokens",
    depth="num_decoder_layers",
    cross_attention=tuple(f"layer.1.EncDecAttention.{name}" for name in "qkvo"),
    ffn=tuple(f"layer.2.DenseReluDense.{name}" for name in _T5_FFN),
)
_LLAMA = Blocks(
    layers="layers",
    embeddings="embed_tokens",
    depth="num_hidden_layers",
    query="self_attn.q_proj",
    key="self_attn.k_proj",
    value="self_attn.v_proj",
    attention_output="self_attn.o_proj",
    ffn=("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
    norm_first=True,
)
_VIT_4 = replace(
    _BERT,
    query="attention.attention.query",
    key="attention.attention.key",
    value="attention.attention.value",
    norm_first=True,
)
_VIT_5 = Blocks(
    layers="layers",
    embeddings="embeddings",
    depth="num_hidden_layers",
    query="attention.q_proj",
    key="attention.k_proj",
    value="attention.v_proj",
    attention_output="attention.o_proj",
    ffn=("mlp.fc1", "mlp.fc2"),
    norm_first=True,
)

FAMILIES: dict[str, Blocks] = {
    "bert": _BERT,
    "electra": replace(_BERT, also_embeddings=("embeddings_project",)),
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "distilbert": Blocks(
        layers="transformer.layer",
        embeddings="embeddings",
        depth="n_layers",
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        attention_output="attention.out_lin",
        ffn=("ffn.lin1", "ffn.lin2"),
        ffn_width="hidden_dim",
    ),
    "mpnet": replace(
        _BERT,
        query="attention.attn.q",
        key="attention.attn.k",
        value="attention.attn.v",
        attention_output="attention.attn.o",
        position_bias=True,
        also_embeddings=("encoder.relative_attention_bias",),
    ),
    "albert": Blocks(
        layers="encoder.albert_layer_groups",
        embeddings="embeddings",
        depth="num_hidden_layers",
        query="albert_layers.0.attention.query",
        key="albert_layers.0.attention.key",
        value="albert_layers.0.attention.value",
        attention_output="albert_layers.0.attention.dense",
        ffn=("albert_layers.0.ffn", "albert_layers.0.ffn_output"),
        also_embeddings=("encoder.embedding_hidden_mapping_in",),
        shared=True,
    ),
    "deberta-v2": replace(
        _BERT,
        query="attention.self.query_proj",
        key="attention.self.key_proj",
        value="attention.self.value_proj",
        also_heads=("attention.self.pos_key_proj", "attention.self.pos_query_proj"),
        also_embeddings=("encoder.rel_embeddings", "encoder.LayerNorm", "encoder.conv"),
    ),
    "modernbert": Blocks(
        layers="layers",
        embeddings="embeddings",
        depth="num_hidden_layers",
        fused="attn.Wqkv",
        attention_output="attn.Wo",
        ffn=("mlp.Wi", "mlp.Wo"),
        norm_first=True,
        starts_alone=True,  # without the norm before its attention: the embeddings end with one
    ),
    "mobilebert": replace(
        _BERT,
        earlier_ffns=tuple(
            tuple(f"ffn.{number}.{name}.dense" for name in ("intermediate", "output")) for number in range(3)
        ),
        bottleneck=("bottleneck.input.dense", "bottleneck.attention.dense", "output.bottleneck.dense"),
    ),
    "squeezebert": Blocks(
        layers="encoder.layers",
        embeddings="embeddings",
        depth="num_hidden_layers",
        query="attention.query",
        key="attention.key",
        value="attention.value",
        attention_output="post_attention.conv1d",
        ffn=("intermediate.conv1d", "output.conv1d"),
    ),
    "bart": replace(_BART, decoder=_BART_DECODER),
    "t5": replace(_T5, decoder=_T5_DECODER),
    "mt5": replace(_T5, decoder=_T5_DECODER),
    "gpt2": Blocks(
        layers="h",
        embeddings="wte",
        depth="n_layer",
        fused="attn.c_attn",
        attention_output="attn.c_proj",
        ffn=("mlp.c_fc", "mlp.c_proj"),
        norm_first=True,
        ffn_width="n_inner",
        also_embeddings=("wpe",),
    ),
    "llama": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "vit": _VIT_4 if version("transformers").startswith("4.") else _VIT_5,
    "resnet": Blocks(layers="encoder.stages", embeddings="embedder", depth=None),
    "mobilenet_v1": Blocks(layers="layer", embeddings="conv_stem", depth=None),
    "mobilenet_v2": Blocks(layers="layer", embeddings="conv_stem", depth=None),
}
"""Row by `config.model_type`."""

_RENAMED = {"vit": (_VIT_4, _VIT_5)}
"""Rows of families whose modules one major of transformers names otherwise than the other."""


def name_here(model_type: str, name: str) -> str:
    """Return what the installed transformers calls a module of a layer that either major has named.

    Args:
        model_type: The family.
        name: The module's name, or a group's, from the base model.
    """
    for other in _RENAMED.get(model_type, ()):
        own = FAMILIES[model_type]
        if other != own and name.startswith(f"{other.layers}."):
            number, _, part = name.removeprefix(f"{other.layers}.").partition(".")
            parts = dict(zip((*other.attention, *other.ffn_layers), (*own.attention, *own.ffn_layers), strict=True))
            return f"{own.layers}.{number}.{parts.get(part, part)}"
    return name


def blocks_of(model_type: str) -> Blocks:
    """Return a family's row.

    Raises:
        ModelError: The table has no row for it; the message shows the row to add.
    """
    if model_type not in FAMILIES:
        raise no_row(model_type)
    return FAMILIES[model_type]


def no_row(model_type: str, instead: str = "") -> ModelError:
    """Return the error for a family without a row; it shows the row to add, after what can be done `instead`."""
    row = f"FAMILIES['{model_type}'] = Blocks(layers=..., embeddings=..., depth=..., query=..., key=..., "
    fix = (
        f"Known: {', '.join(sorted(FAMILIES))}. To teach hfcompress this one, add its row:\n"
        f"    from hfcompress.modeling.families import FAMILIES, Blocks\n"
        f"    {row}value=..., attention_output=..., ffn=(..., ...))"
    )
    problem = f"the architecture '{model_type}' has no row in the block table."
    return ModelError(Fault("", problem, f"{instead} {fix}".lstrip()))


def stacks_of(model: PreTrainedModel) -> list[tuple[Blocks, nn.ModuleList]]:
    """Return the stacks of layers that a model has, each with its row: one, or encoder and decoder."""
    from torch import nn

    modules = dict(model.base_model.named_modules())
    found = [(stack, modules.get(stack.layers)) for stack in blocks_of(model.config.model_type).stacks]
    return [(stack, layers) for stack, layers in found if isinstance(layers, nn.ModuleList)]


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    """Return a model's list of layers; of an encoder and a decoder the encoder's."""
    return stacks_of(model)[0][1]


def layers_prefix(model: PreTrainedModel) -> str:
    """Return where `layers_of` stands in the model's state dict, without the trailing dot."""
    layers = layers_of(model)
    return next(name for name, module in model.named_modules() if module is layers)


def component_of(name: str, model_type: str, layers: str) -> str:
    """Name the component that a parameter belongs to.

    Args:
        name: The parameter's name in the state dict.
        model_type: The family.
        layers: What `layers_prefix` returned.

    Returns:
        Of a layer `attention`, `ffn`, `bottleneck`, `convolution` or `norm`; `embeddings` (all that stands before the
        layers, and biases by position); `head` (all that stands after them).
    """
    blocks = blocks_of(model_type)
    base = next(layers.removesuffix(stack.layers) for stack in blocks.stacks if layers.endswith(stack.layers))
    for stack in blocks.stacks:
        if name.startswith(f"{base}{stack.layers}."):
            return _component_in_layer(name.removeprefix(f"{base}{stack.layers}.").partition(".")[2], stack)
    before = tuple(f"{base}{part}." for part in (blocks.embeddings, *blocks.also_embeddings))
    return "embeddings" if name.startswith(before) else "head"


def _component_in_layer(name: str, blocks: Blocks) -> str:
    parts = {
        "embeddings": blocks.first_layer,
        "attention": (*blocks.attention, *blocks.also_heads),
        "ffn": blocks.ffn_layers,
        "bottleneck": blocks.bottleneck,
    }
    found = next((part for part, modules in parts.items() if name.startswith(modules)), None)
    return found or ("convolution" if ".convolution." in f".{name}" else "norm")
