"""The options of an export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Gt, Interval

from hfcompress.config import checked_by, option
from hfcompress.errors import Fault, RequestError, closest
from hfcompress.quantization.options import BlockSize, EmbeddingBits

METHODS = {
    "int8": "dynamic",
    "static": "static",
    "smooth_quant": "smooth_quant",
    "mixed": "mixed",
    "int4": "int4",
    "int8_weights": "int8_weights",
    "float16": "float16",
}
"""What `quantize` may name, and the method of that name in the list of methods."""

SUFFIXES = {
    "int8": "quantized",
    "static": "quantized",
    "smooth_quant": "quantized",
    "mixed": "quantized",
    "int4": "q4",
    "int8_weights": "int8",
    "float16": "fp16",
}
"""What stands behind the names of a method's files: the names that transformers.js looks for."""

_WITH_DATA = ("static", "smooth_quant", "mixed")


def method_names(quantize: str) -> tuple[str, ...]:
    """Return the methods that a text names, parted by commas; none for `none`.

    Raises:
        RequestError: There is no such method, or one is named twice.

    Example:
        >>> method_names("int8, smooth-quant"), method_names("none")
        (('int8', 'smooth_quant'), ())
    """
    names = tuple(part.strip().replace("-", "_") for part in quantize.split(","))
    if names == ("none",):
        return ()
    faults = []
    for name in sorted(set(names) - set(METHODS)):
        near = closest(name, METHODS)
        problem = "'none' goes with nothing else." if name == "none" else f"there is no method '{name}'."
        hint = f"Did you mean '{near}'?" if near else f"Allowed: {', '.join(METHODS)}, none."
        faults.append(Fault("quantize", problem, hint))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        faults.append(Fault("quantize", f"names {', '.join(twice)} more than once."))
    if faults:
        raise RequestError(*faults)
    return names


@dataclass
class ExportConfig:
    """How a model becomes ONNX files."""

    backend: Literal["auto", "optimum", "native"] = option(
        "auto", help="what traces the model: optimum (transformers 4.57), native (transformers 5), or what is installed"
    )
    quantize: Annotated[str, checked_by(method_names)] = option(
        "int8",
        help="further files in fewer bits, several with commas: int8, static, smooth_quant, int4, int8_weights, "
        "float16, mixed; or none",
    )
    fusion: Literal["auto", "on", "off"] = option(
        "auto", help="join operators into ONNX Runtime's larger ones: where that is faster on this machine, or always"
    )
    no_quantize_embeddings: bool = option(False, help="leave embeddings in float in the quantized files")
    max_drop: Annotated[float, Interval(gt=0, lt=1)] | None = option(
        None, help="leave the fewest operators in float that keep the main metric within so much, such as 0.005"
    )
    max_size: Annotated[float, Gt(0)] | None = option(
        None, help="mixed: bytes of the weights at most, in MB, or up to 1 as a part of the float ones"
    )
    target_latency: Annotated[float, Interval(gt=0, le=1)] | None = option(
        None, help="mixed: time at most, as a part of the float file's on this machine"
    )
    calibrator: Literal["auto", "minmax", "percentile", "entropy"] = option(
        "auto", help="static: how ranges are chosen; auto measures which answers nearest to float"
    )
    percentile: Annotated[float, Interval(gt=50, le=100)] = option(
        99.99, help="static: percent of the values that the percentile calibrator spans"
    )
    smoothing: Annotated[float, Interval(ge=0, le=1)] = option(
        0.5, help="smooth_quant: how much of the activations' outliers goes into the weights, from 0 to 1"
    )
    algorithm: Literal["auto", "rtn", "hqq", "gptq"] = option(
        "auto",
        help="int4, mixed: how weights are rounded: rtn plainly, hqq with fitted scales, gptq (needs data) for the "
        "inputs that they get; auto: gptq with data, hqq without",
    )
    block_size: BlockSize = option(32, help="int4, mixed: how many weights share a scale")
    embedding_bits: EmbeddingBits = option(4, help="int4: bits of the embeddings")
    calibration_rows: Annotated[int, Gt(0)] = option(
        128, help="static, smooth_quant, gptq, mixed: training rows that are looked at"
    )
    tolerance: Annotated[float, Gt(0)] = option(
        1e-4, help="largest difference from PyTorch that the float file may have, in parts of the largest output"
    )
    opset: Annotated[int, Interval(ge=7, le=25)] | None = option(
        None, help="version of the ONNX operator set (default: the backend's own)"
    )

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that are asked for, the main one first."""
        return method_names(self.quantize)

    @property
    def suffixes(self) -> dict[str, str]:
        """What stands behind the names of each method's files; of two that would share a name the later has its own."""
        found: dict[str, str] = {}
        for name in self.methods:
            suffix = SUFFIXES[name]
            found[name] = name if suffix in found.values() else suffix
        return found

    @property
    def needs_data(self) -> list[str]:
        """The methods that look at rows of data."""
        return [name for name in self.methods if name in _WITH_DATA or (name, self.algorithm) == ("int4", "gptq")]

    @property
    def uses_data(self) -> list[str]:
        """The methods that look at rows of data where there are some."""
        return [name for name in self.methods if name in self.needs_data or (name, self.algorithm) == ("int4", "auto")]

    def check(self) -> None:
        """Look across the options.

        Raises:
            RequestError: A drop is to be kept in a file that is not written, or mixed has no aim or two.
        """
        faults = []
        if self.max_drop is not None and not self.methods:
            faults.append(Fault("max_drop", "says what 8 bits may cost, but quantize is 'none'."))
        aims = [name for name in ("max_size", "target_latency") if getattr(self, name) is not None]
        if "mixed" not in self.methods:
            faults += [Fault(name, "goes with mixed.", "Add --quantize mixed.") for name in aims]
        elif len(aims) > 1:
            faults.append(Fault("quantize", "mixed takes max_size or target_latency, not both."))
        elif not aims and self.max_drop is None:
            problem = "mixed needs to know what it has to keep, and nothing says so."
            fix = "Give one of max_drop, max_size, target_latency, such as max_drop 0.005."
            faults.append(Fault("max_drop", problem, fix))
        if faults:
            raise RequestError(*faults)
