"""`hfcompress quantize`: one model, one method, weights of fewer bits, in PyTorch or in ONNX files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hfcompress.cli import export
from hfcompress.cli.bench import BenchData
from hfcompress.cli.methods import MethodOptions, run_method
from hfcompress.cli.options import Others, OutputOptions, Request, ShipOptions, Verb, as_flags
from hfcompress.cli.output import Output
from hfcompress.config import option, parse
from hfcompress.data import DataConfig
from hfcompress.errors import RequestError
from hfcompress.export.config import ExportConfig

if TYPE_CHECKING:
    from hfcompress.registry import Method


@dataclass
class GraphOptions(ExportConfig):
    """How a model becomes ONNX files in fewer bits."""

    quantize: str = option("none", help="the method, given by --method", recipe_only=True)

    def check(self) -> None:
        """Leave it to `ExportConfig`, which is told the method."""


def run(request: Request, output: Output) -> None:
    """Run a recipe of one step, or write ONNX files."""
    options, config, *rest = request.configs
    if not isinstance(config, GraphOptions):
        run_method(request, output, "quantized")
        return
    values = {**dataclasses.asdict(config), "quantize": options.method.replace("-", "_")}
    try:
        settings = parse(ExportConfig, values)
    except RequestError as error:
        raise as_flags(error, GraphOptions, "") from None
    export.run(Request((options, settings, *rest), {}), output)


def graph_methods() -> Mapping[str, Method]:
    """Return the methods that quantize ONNX graphs."""
    from hfcompress.export.methods import quantization_methods

    return quantization_methods()


VERB = Verb(
    help="Give a model's weights eight or four bits: in PyTorch, or in ONNX files.",
    examples=(
        "hfcompress quantize --model ./my-model --method bnb-nf4 --dataset reviews.csv --output-dir four-bit",
        "hfcompress quantize --model ./my-model --method bnb-int8 --exclude '*.output.dense' --dataset reviews.csv "
        "--output-dir eight-bit",
        "hfcompress quantize --model ./my-model --method int4 --output-dir small",
        "hfcompress quantize --model ./my-model --method static --dataset reviews.csv --output-dir small",
        "hfcompress quantize --model ./my-model --method mixed --max-drop 0.005 --dataset reviews.csv "
        "--output-dir small",
    ),
    groups=(MethodOptions, DataConfig, OutputOptions, ShipOptions),
    run=run,
    family="quantization",
    others=Others(
        "methods that write ONNX files", graph_methods, (MethodOptions, GraphOptions, BenchData, OutputOptions)
    ),
)
