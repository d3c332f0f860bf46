"""`hfcompress cluster`: one model, few values for its weights, and perhaps one small file."""

from __future__ import annotations

from dataclasses import dataclass

from hfcompress.cli.methods import MethodOptions, run_method
from hfcompress.cli.options import OutputOptions, Request, ShipOptions, Verb
from hfcompress.cli.output import Output
from hfcompress.config import option
from hfcompress.data import DataConfig


@dataclass
class ClusterOptions(MethodOptions):
    """What is compressed, and how."""

    method: str | None = option("kmeans", help="how: one of `hfcompress list clustering`")
    pack: str | None = option(
        None, help="name of a .hfz file in the output folder that holds the checkpoint in few bytes, such as model.hfz"
    )


def run(request: Request, output: Output) -> None:
    """Build the recipe that the flags stand for, and run it."""
    run_method(request, output, "clustered", pack=request.configs[0].pack)


VERB = Verb(
    help="Let the weights of each matrix share a few values; the checkpoint stays a stock one.",
    examples=(
        "hfcompress cluster --model my-model --clusters 16 --dataset reviews.csv --output-dir shared --pack model.hfz",
        "hfcompress cluster --model my-model --clusters 32 --bit-price 0.03 --dataset reviews.csv "
        "--output-dir shared --pack model.hfz",
    ),
    groups=(ClusterOptions, DataConfig, OutputOptions, ShipOptions),
    run=run,
    family="clustering",
    default_method="kmeans",
)
