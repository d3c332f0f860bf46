"""The 8-bit file: made from the graph that is fastest in int8, sensitive nodes left in float where that is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfcompress.export.layout import with_suffix
from hfcompress.export.validation import Proof
from hfcompress.export.variants import Variant, fastest_variant
from hfcompress.quantization.dynamic import QuantizedNodes, quantizable, quantize_dynamic
from hfcompress.tasks import Task

if TYPE_CHECKING:
    from transformers import PretrainedConfig

SUFFIX = "quantized"


@dataclass
class Int8:
    """A variant's graphs in int8.

    Args:
        variant: The same, as a variant of its own.
        nodes: What was quantized in each graph.
    """

    variant: Variant
    nodes: list[QuantizedNodes]

    def record(self, proof: Proof) -> dict[str, Any]:
        """Return what `compression.json` says of it."""
        counts = sum((Counter(nodes.counts) for nodes in self.nodes), Counter[str]())
        left = sum((Counter({kind: len(n) for kind, n in nodes.left.items()}) for nodes in self.nodes), Counter[str]())
        return {
            "method": "dynamic int8",
            "from": self.variant.name,
            "nodes": dict(counts),
            "left": dict(left),
            "kept_float": sorted({name for nodes in self.nodes for name in nodes.kept_float}),
            "validation": proof.of(self.variant.files).to_dict(),
        }


def quantized(variant: Variant, folder: Path, embeddings: bool, keep_float: Collection[str] = ()) -> Int8:
    """Write a variant's graphs in int8 into a new folder.

    Raises:
        ExportError: That would not make them smaller.
    """
    folder.mkdir()
    targets = [folder / with_suffix(file.name, SUFFIX) for file in variant.files]
    nodes = []
    for file, target in zip(variant.files, targets, strict=True):
        kept = set(quantizable(file, embeddings)) & set(keep_float) if keep_float else ()
        nodes.append(quantize_dynamic(file, target, embeddings, kept))
    return Int8(Variant(variant.name, targets), nodes)


def fastest_int8(
    variants: Sequence[Variant], work: Path, embeddings: bool, config: PretrainedConfig, task: Task
) -> tuple[Int8, dict[str, float]]:
    """Quantize every variant and return the one that then runs fastest on this machine, and the figures.

    Raises:
        ExportError: int8 would not make them smaller.
    """
    made = [quantized(variant, work / f"int8-{variant.name}", embeddings) for variant in variants]
    chosen, figures = fastest_variant([one.variant for one in made], config, task)
    return next(one for one in made if one.variant is chosen), figures
