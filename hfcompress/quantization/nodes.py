"""What a method did to the nodes of a graph: how many in which form, what stayed float, and the bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hfcompress.errors import ExportError


@dataclass
class QuantizedNodes:
    """What was quantized in a graph, and what was not.

    Args:
        names: Names of the quantized nodes, by kind (`MatMul`, `Gemm`, `Gather`, `Conv`), in the graph's order.
        kept_float: Names of the nodes that were left in float on request.
        left: Names of nodes with weights that cannot or need not be quantized, by kind.
        bytes_before: Size of the float graph, with its data.
        bytes_after: Size of the quantized one.
        method: What tables call the method.
        float_bytes: Bytes of the weights that stay in float, by node: those of `kept_float` and `left`.
        details: What else the method has to say, for the record.
    """

    names: dict[str, list[str]] = field(default_factory=dict)
    kept_float: list[str] = field(default_factory=list)
    left: dict[str, list[str]] = field(default_factory=dict)
    bytes_before: int = 0
    bytes_after: int = 0
    method: str = "dynamic int8"
    float_bytes: dict[str, int] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """Number of quantized nodes by kind."""
        return {kind: len(names) for kind, names in self.names.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return it for the record of an export."""
        return {
            "method": self.method,
            "nodes": self.counts,
            "kept_float": self.kept_float,
            "left": self.left,
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
            "float_share": self.float_share,
            **self.details,
        }

    @property
    def float_share(self) -> float:
        """Which part of the float graph's bytes the weights are that stay in float."""
        return round(sum(self.float_bytes.values()) / max(self.bytes_before, 1), 4)


def refuse_larger(source: Path, target: Path, result: QuantizedNodes) -> None:
    """Delete a quantized file that is not smaller than its source.

    Raises:
        ExportError: It is not.
    """
    if result.bytes_after < result.bytes_before:
        return
    for part in (target, target.with_name(target.name + "_data")):
        part.unlink(missing_ok=True)
    counts = ", ".join(f"{count} {kind}" for kind, count in result.counts.items()) or "none"
    what = "int8" if result.method == "dynamic int8" else result.method
    raise ExportError(
        f"{what} does not make {source.name} smaller: {result.bytes_before:,} bytes before, {result.bytes_after:,} "
        f"after (nodes quantized: {counts}). Its float weights are too few or lie in operators that {what} does not "
        "cover; export it with `--quantize none`."
    )
