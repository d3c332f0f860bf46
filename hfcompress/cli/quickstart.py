"""`hfcompress quickstart`: the main job on a model and sentences that packages ship, or on the same from the Hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hfcompress.cli.options import OutputOptions, Request, ShipOptions, Verb, positional
from hfcompress.cli.output import Output
from hfcompress.cli.recipes import run_recipe
from hfcompress.config import option

_FROM_HUB = (
    "model=sentence-transformers/all-MiniLM-L6-v2",
    "data.dataset=cornell-movie-review-data/rotten_tomatoes",
    "data.where={}",
    "data.label_names=null",
    "data.validation=validation",
    "checksums={}",
)
"""The same model and sentences, where there is a Hub."""


@dataclass
class QuickstartOptions:
    """Where from and where to."""

    overrides: list[str] = positional(help="key=value, as for `hfcompress run`", many=True)
    from_hub: bool = option(False, help="take model and data set from the Hub instead of the packages")
    output_dir: Path = option(Path("quickstart"), help="folder for the result")
    overwrite: bool = option(
        False, help="replace an existing folder once the new one is complete; unchanged steps are reused"
    )
    dry_run: bool = option(False, help="say what would be made and what it costs; write nothing")


def run(request: Request, output: Output) -> None:
    """Run the quickstart recipe; a second time it shows what is there."""
    from hfcompress.pipeline.recipe import find_recipe, read_recipe

    options, ship = request.configs
    overrides = [*(_FROM_HUB if options.from_hub else ()), *options.overrides]
    place = OutputOptions(options.output_dir, options.overwrite, options.dry_run)
    run_recipe(read_recipe(find_recipe("quickstart"), overrides), place, output, reuse=True, ship=ship)


VERB = Verb(
    help="Fine-tune a teacher on film reviews, distil half of it, export that, compare: ten minutes on two cores.",
    examples=(
        "hfcompress quickstart",
        "hfcompress quickstart --from-hub",
        "hfcompress quickstart steps.1.distill.student=cut:layers=2 --output-dir two-layers",
    ),
    groups=(QuickstartOptions, ShipOptions),
    run=run,
)
