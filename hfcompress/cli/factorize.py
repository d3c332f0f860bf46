"""`hfcompress factorize`: one model, one method, one data set."""

from __future__ import annotations

from hfcompress.cli.methods import MethodOptions, run_method
from hfcompress.cli.options import OutputOptions, Request, ShipOptions, Verb
from hfcompress.cli.output import Output
from hfcompress.data import DataConfig


def run(request: Request, output: Output) -> None:
    """Build the recipe that the flags stand for, and run it."""
    run_method(request, output, "factorized")


VERB = Verb(
    help="Replace a model's linear layers, embeddings or convolutions by chains of thin ones.",
    examples=(
        "hfcompress factorize --model ./my-model --method activation --target-params 0.6 --dataset reviews.csv "
        "--output-dir small",
        "hfcompress factorize --model ./my-model --method activation --target-latency 0.7 --dataset reviews.csv "
        "--output-dir fast",
        "hfcompress factorize --model ./my-model --method svd --rank-ratio 0.5 --modules '*.intermediate.dense' "
        "--dataset reviews.csv --output-dir plain",
        "hfcompress factorize --model ./my-resnet --method tucker --target-macs 0.5 --dataset photos "
        "--output-dir small",
    ),
    groups=(MethodOptions, DataConfig, OutputOptions, ShipOptions),
    run=run,
    family="factorization",
)
