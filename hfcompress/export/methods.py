"""The quantized files of an export: which method makes which file, from the graph that is then fastest."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfcompress.export.config import METHODS, SUFFIXES, ExportConfig
from hfcompress.export.layout import with_suffix
from hfcompress.export.validation import Proof
from hfcompress.export.variants import Variant, fastest_variant
from hfcompress.quantization.convert import FAMILY, Batches, quantizable
from hfcompress.quantization.nodes import QuantizedNodes
from hfcompress.quantization.static import write_static
from hfcompress.quantization.trained_ranges import graph_ranges
from hfcompress.registry import Method, find
from hfcompress.tasks import Task

if TYPE_CHECKING:
    from transformers import PretrainedConfig

SUFFIX = SUFFIXES["int8"]


def quantization_methods() -> dict[str, Method]:
    """Return what `ExportConfig.quantize` may name, with the method behind each."""
    return {name: find(FAMILY, method) for name, method in METHODS.items()}


@dataclass
class Quantized:
    """A variant's graphs in fewer bits.

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
        before = sum(nodes.bytes_before for nodes in self.nodes)
        float_bytes = {name: size for nodes in self.nodes for name, size in nodes.float_bytes.items()}
        details = {name: value for nodes in self.nodes for name, value in nodes.details.items()}
        return {
            "method": self.nodes[0].method,
            "from": self.variant.name,
            "nodes": dict(counts),
            "left": dict(left),
            "kept_float": sorted({name for nodes in self.nodes for name in nodes.kept_float}),
            "float": [{"node": name, "share": round(size / before, 5)} for name, size in float_bytes.items()],
            **details,
            "validation": proof.of(self.variant.files).to_dict(),
        }


@dataclass
class Maker:
    """Writes a variant's graphs by one method.

    Args:
        name: The method, as `ExportConfig.quantize` names it.
        settings: The options of an export.
        suffix: Put behind the names of the files.
        feeds: What each graph takes on calibration rows, by the file's name; empty where none are needed.
        trained: The config of a model that was trained with rounding, whose ranges static int8 then has.
    """

    name: str
    settings: ExportConfig
    suffix: str
    feeds: Mapping[str, Batches] = dataclasses.field(default_factory=dict)
    trained: PretrainedConfig | None = None

    def make(self, variant: Variant, folder: Path, keep_float: Collection[str] = (), **options: Any) -> Quantized:
        """Write the graphs into a new folder.

        Args:
            variant: The float graphs.
            folder: Where they go.
            keep_float: Names of nodes to leave in float.
            **options: Put in the place of the method's own.

        Raises:
            ExportError: That would not make them smaller.
        """
        folder.mkdir()
        method = find(FAMILY, METHODS[self.name])
        config = method_config(method, self.settings, options)
        targets = [folder / with_suffix(file.name, self.suffix) for file in variant.files]
        nodes = []
        for file, target in zip(variant.files, targets, strict=True):
            kept = set(quantizable(file)) & set(keep_float) if keep_float else ()
            if self.trained is not None:
                ranges = graph_ranges(file, self.trained)
                nodes.append(write_static(file, target, ranges, not self.settings.no_quantize_embeddings, kept))
                nodes[-1].details = {"ranges": "trained"}
            else:
                nodes.append(method.target(file, target, config, self.feeds.get(file.name), kept))
        return Quantized(Variant(variant.name, targets), nodes)

    def fastest(
        self, variants: Sequence[Variant], work: Path, config: PretrainedConfig, task: Task
    ) -> tuple[Quantized, dict[str, float]]:
        """Quantize every variant and return the one that then runs fastest on this machine, and the figures.

        Raises:
            ExportError: That would not make them smaller.
        """
        made = [self.make(variant, work / f"{self.name}-{variant.name}") for variant in variants]
        chosen, figures = fastest_variant([one.variant for one in made], config, task)
        return next(one for one in made if one.variant is chosen), figures


def method_config(method: Method, settings: ExportConfig, options: Mapping[str, Any]) -> Any:
    """Return a method's options out of those of an export, which bear the same names."""
    names = {field.name for field in dataclasses.fields(method.config)}
    given = {name: getattr(settings, name) for name in names if hasattr(settings, name)}
    return method.config(**{**given, **options})
