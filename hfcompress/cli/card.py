"""`hfcompress card`: writes the model card of an output folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hfcompress.cli.options import Request, Verb, positional
from hfcompress.cli.output import Output
from hfcompress.config import option
from hfcompress.errors import Fault, RequestError


@dataclass
class CardOptions:
    """Which folder."""

    folder: str | None = positional(help="an output folder of hfcompress")
    repo_id: str | None = option(None, help="where the model is going to be on the Hub, such as me/model")
    overwrite: bool = option(False, help="replace a card that somebody wrote or edited")
    dry_run: bool = option(False, help="print the card; write nothing")


def run(request: Request, output: Output) -> None:
    """Write the card, or print it."""
    from hfcompress.hub.card import build_card, write_card

    (options,) = request.configs
    if options.folder is None:
        raise RequestError(Fault("", "name a folder.", "For example: hfcompress card out"))
    if options.dry_run:
        text = str(build_card(Path(options.folder), options.repo_id))
        output.result({"card": text}, text)
        return
    path = write_card(Path(options.folder), options.repo_id, overwrite=options.overwrite)
    output.result({"card": str(path)}, f"{path} is written. Read it before you share it.")


VERB = Verb(
    help="Write the model card of an output folder, from what was recorded and measured there.",
    examples=("hfcompress card out", "hfcompress card out --repo-id me/model --dry-run"),
    groups=(CardOptions,),
    run=run,
)
