"""The block table: where each architecture keeps its layers, attention, feed-forward network and embeddings.

One row a family. Everything that looks inside a model (cuts, inspection, and later surgery) reads this table and
nothing else, so a new architecture is a new row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hfcompress.errors import Fault, ModelError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Blocks:
    """Where a family keeps its parts.

    Args:
        layers: The list of layers, from the base model (`model.base_model`).
        embeddings: The embeddings, from the base model.
        depth: The config's name for the number of layers.
        query, key, value, attention_output: The attention's linear layers, from one layer.
        ffn: The feed-forward network's linear layers from input to output, from one layer.
    """

    layers: str
    embeddings: str
    depth: str
    query: str
    key: str
    value: str
    attention_output: str
    ffn: tuple[str, ...]


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

FAMILIES: dict[str, Blocks] = {
    "bert": _BERT,
    "electra": _BERT,
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
    ),
    "mpnet": Blocks(
        layers="encoder.layer",
        embeddings="embeddings",
        depth="num_hidden_layers",
        query="attention.attn.q",
        key="attention.attn.k",
        value="attention.attn.v",
        attention_output="attention.attn.o",
        ffn=("intermediate.dense", "output.dense"),
    ),
}
"""Row by `config.model_type`."""


def blocks_of(model_type: str) -> Blocks:
    """Return a family's row.

    Raises:
        ModelError: The table has no row for it; the message shows the row to add.
    """
    if model_type not in FAMILIES:
        row = f"FAMILIES['{model_type}'] = Blocks(layers=..., embeddings=..., depth=..., query=..., key=..., "
        fix = (
            f"Known: {', '.join(sorted(FAMILIES))}. To teach hfcompress this one, add its row:\n"
            f"    from hfcompress.modeling.families import FAMILIES, Blocks\n"
            f"    {row}value=..., attention_output=..., ffn=(..., ...))"
        )
        raise ModelError(Fault("", f"the architecture '{model_type}' has no row in the block table.", fix))
    return FAMILIES[model_type]


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    """Return a model's list of layers."""
    return model.base_model.get_submodule(blocks_of(model.config.model_type).layers)  # type: ignore[return-value]


def layers_prefix(model: PreTrainedModel) -> str:
    """Return where the list of layers stands in the model's state dict, without the trailing dot."""
    layers = layers_of(model)
    return next(name for name, module in model.named_modules() if module is layers)


def component_of(name: str, model_type: str, layers: str) -> str:
    """Name the component that a parameter belongs to.

    Args:
        name: The parameter's name in the state dict.
        model_type: The family.
        layers: What `layers_prefix` returned.

    Returns:
        `embeddings`, `attention`, `ffn`, `norm` (of a layer), or `head` (all that stands after the layers).
    """
    blocks = blocks_of(model_type)
    if not name.startswith(layers + "."):
        # What stands before the layers (embeddings, ELECTRA's projection of them) and what stands after.
        base = layers.removesuffix(blocks.layers)
        before = (f"{base}{blocks.embeddings}", f"{base}encoder.relative_attention_bias")
        return "embeddings" if name.startswith(before) else "head"
    inside = name.removeprefix(layers + ".").partition(".")[2]
    attention = (blocks.query, blocks.key, blocks.value, blocks.attention_output)
    if inside.startswith(attention):
        return "attention"
    return "ffn" if inside.startswith(blocks.ffn) else "norm"
