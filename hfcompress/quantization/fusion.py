"""Fusion: patterns of small operators become ONNX Runtime's larger ones, by its own optimizer."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hfcompress.quantization.files import external, load_graph, numbers, save_graph
from hfcompress.quantization.graph import Scope, attribute, remove_unused

if TYPE_CHECKING:
    import onnx

_OWN_TYPES = {"bart": "bart", "gpt2": "gpt2", "t5": "t5", "mt5": "t5", "vit": "vit", "swin": "swin"}
"""ONNX Runtime's type of optimizer by transformers' model type; all others are read as BERT."""


def fuse(
    source: Path,
    target: Path,
    model_type: str,
    heads: int = 0,
    hidden: int = 0,
    heads_by_width: Mapping[int, int] | None = None,
) -> dict[str, int]:
    """Write an ONNX file with operators fused for the CPU.

    Attention becomes `MultiHeadAttention`, the error function and what belongs to it `Gelu`; both run on every CPU
    build of ONNX Runtime, and the products in front of attention stay apart, so that they can be quantized. What its
    CPU kernels make slower is left out: `SkipLayerNormalization` takes several times as long as an addition and a
    normalisation.

    Args:
        source: The graph.
        target: Where the fused one goes.
        model_type: What transformers calls the architecture.
        heads: Attention heads a layer; 0 leaves attention as it is. Layers with fewer are told by their width.
        hidden: Width of the model.
        heads_by_width: Where heads are of several widths, how many there are by that of all of them together; 0 where
            it does not tell, and nothing is fused.

    Returns:
        Number of fused operators by kind; nothing, and no file, where no attention was recognised.
    """
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import MODEL_TYPES

    kind = _OWN_TYPES.get(model_type, "bert")
    before = _counts(load_graph(source))
    model = load_graph(source)
    _read_narrow(model, source.parent, hidden)
    options = FusionOptions(kind)
    options.use_multi_head_attention = True
    options.enable_attention = heads > 0 and hidden > 0
    for name in ("skip_layer_norm", "embed_layer_norm", "bias_skip_layer_norm", "bias_gelu"):
        setattr(options, f"enable_{name}", False)
    with _quiet():
        optimizer = MODEL_TYPES[kind][0](model, heads, hidden)
        try:
            optimizer.optimize(options)
            optimizer.topological_sort()
        # Its patterns are guarded by assertions and look-ups that fail on graphs they were not written for.
        except Exception:
            return {}
    fused = optimizer.model
    if heads and not _set_heads(fused, hidden // heads, heads_by_width or {}):
        return {}
    remove_unused(fused)
    found = {name: count - before.get(name, 0) for name, count in _counts(fused).items()}
    found = {name: count for name, count in found.items() if count > 0}
    if not any(name.endswith("Attention") for name in found):
        return {}  # the rest ONNX Runtime fuses by itself whenever it loads the file
    save_graph(fused, target, source.parent)
    return found


def _counts(model: onnx.ModelProto) -> dict[str, int]:
    """Count the operators that only ONNX Runtime knows, and normalisations."""
    counts: dict[str, int] = {}
    for node in model.graph.node:
        if node.domain == "com.microsoft" or node.op_type == "LayerNormalization":
            counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return counts


def _read_narrow(model: onnx.ModelProto, folder: Path, hidden: int) -> None:
    """Read the matrices no larger than attention's, whose shapes and numbers the optimizer looks at."""
    import onnx

    for tensor in external(model):
        if len(tensor.dims) < 2 or max(tensor.dims) <= hidden:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.asarray(numbers(tensor, folder)), tensor.name))


def _set_heads(model: onnx.ModelProto, head_width: int, heads_by_width: Mapping[int, int]) -> bool:
    """Give each attention the heads that its own width has room for; say whether that is possible for all."""
    scope = Scope(model.graph)
    for node in model.graph.node:
        if node.op_type == "MultiHeadAttention":
            width = _output_width(scope, node.input[0])
            heads = heads_by_width.get(width, 0 if width % head_width else width // head_width)
            if not heads:
                return False
            for held in node.attribute:
                if held.name == "num_heads":
                    held.i = heads
        elif node.op_type == "Attention" and attribute(node, "num_heads", 0) <= 0:
            return False
    return True


def _output_width(scope: Scope, name: str) -> int:
    """Return the number of columns of the product that makes a value, with or without a bias; 0 when unknown."""
    node = scope.producers.get(name)
    while node is not None and node.op_type == "Add":
        node = next((scope.producers[held] for held in node.input if held in scope.producers), None)
    if node is None or node.op_type != "MatMul":
        return 0
    weight = scope.find(node.input[1])
    if weight is None:
        return 0
    return weight.tensor.dims[0 if weight.transposed else -1]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the optimizer's remarks about patterns that it did not find to itself; some of them are printed."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
