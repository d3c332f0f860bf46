"""`hfcompress prune`: one model, one method, one data set."""

from __future__ import annotations

from hfcompress.cli.methods import MethodOptions, run_method
from hfcompress.cli.options import OutputOptions, Request, ShipOptions, Verb
from hfcompress.cli.output import Output
from hfcompress.data import DataConfig


def run(request: Request, output: Output) -> None:
    """Build the recipe that the flags stand for, and run it."""
    run_method(request, output, "pruned")


VERB = Verb(
    help="Remove weights, heads, neurons, layers, filters or words from a model.",
    examples=(
        "hfcompress prune --model ./my-model --method fisher --macs 0.4 --dataset reviews.csv --output-dir small",
        "hfcompress prune --model ./my-model --method wanda --pattern 2:4 --dataset reviews.csv --output-dir sparse",
        "hfcompress prune --model ./my-model --method magnitude --sparsity 0.5 --modules '*.attention.*' "
        "--layers 0,1 --dataset reviews.csv --output-dir sparse",
        "hfcompress prune --model ./my-model --method magnitude --train --sparsity 0.85 --losses kl "
        "--dataset reviews.csv --output-dir sparse --num-train-epochs 4",
        "hfcompress prune --model ./my-model --method movement --structure heads_and_neurons --sparsity 0.5 "
        "--dataset reviews.csv --output-dir small --learning-rate 1e-4",
        "hfcompress prune --model ./my-model --method vocabulary --dataset reviews.csv --output-dir small",
    ),
    groups=(MethodOptions, DataConfig, OutputOptions, ShipOptions),
    run=run,
    family="pruning",
)
