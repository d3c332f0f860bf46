"""The options of an export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Gt, Interval

from hfcompress.config import option
from hfcompress.errors import Fault, RequestError


@dataclass
class ExportConfig:
    """How a model becomes ONNX files."""

    backend: Literal["auto", "optimum", "native"] = option(
        "auto", help="what traces the model: optimum (transformers 4.57), native (transformers 5), or what is installed"
    )
    quantize: Literal["int8", "none"] = option("int8", help="write a second file in 8 bits, or not")
    fusion: Literal["auto", "on", "off"] = option(
        "auto", help="join operators into ONNX Runtime's larger ones: where that is faster on this machine, or always"
    )
    no_quantize_embeddings: bool = option(False, help="leave embeddings in float in the 8-bit file")
    max_drop: Annotated[float, Interval(gt=0, lt=1)] | None = option(
        None, help="leave the fewest operators in float that keep the main metric within so much, such as 0.005"
    )
    tolerance: Annotated[float, Gt(0)] = option(
        1e-4, help="largest difference from PyTorch that the float file may have, in parts of the largest output"
    )
    opset: Annotated[int, Interval(ge=7, le=25)] | None = option(
        None, help="version of the ONNX operator set (default: the backend's own)"
    )

    def check(self) -> None:
        """Look across the options.

        Raises:
            RequestError: A drop is to be kept in a file that is not written.
        """
        if self.max_drop is not None and self.quantize == "none":
            raise RequestError(Fault("max_drop", "says what 8 bits may cost, but quantize is 'none'."))
