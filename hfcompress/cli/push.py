"""`hfcompress push`: a finished model folder to the Hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hfcompress.cli.options import Request, Verb, positional
from hfcompress.cli.output import Output, table
from hfcompress.config import option
from hfcompress.errors import Fault, RequestError

if TYPE_CHECKING:
    from hfcompress.hub.push import PushReport


@dataclass
class PushOptions:
    """What goes where."""

    repo_id: str = option(help="repository on the Hub, NAMESPACE/NAME; made if there is none, private")
    folder: str | None = positional(help="a model folder with its card, as every verb that makes a model leaves it")
    public: bool = option(False, help="let everybody see it; a repository that is there already is never changed")
    branch: str | None = option(None, help="branch that the commit goes to, made if need be (default: main)")
    tag: str | None = option(None, help="name for the commit, such as v1")
    create_pr: bool = option(False, help="propose the files in a pull request instead")
    message: str | None = option(None, help="title of the commit (default: Push and the folder's name)")
    dry_run: bool = option(False, help="check the folder and list its files and sizes; ask the Hub nothing")


def run(request: Request, output: Output) -> None:
    """Check the folder, push it, check what arrived."""
    from hfcompress.hub.push import push

    (options,) = request.configs
    if options.folder is None:
        raise RequestError(Fault("", "name a folder.", "For example: hfcompress push out --repo-id me/my-model"))
    report = push(
        options.folder,
        options.repo_id,
        public=options.public,
        branch=options.branch,
        tag=options.tag,
        create_pr=options.create_pr,
        dry_run=options.dry_run,
        message=options.message,
        say=output.say,
    )
    rows = [[name, f"{size / 1e6:,.2f}"] for name, size in report.files.items()]
    rows.append([f"all {len(report.files)} files", f"{report.bytes / 1e6:,.2f}"])
    output.result(report.to_dict(), table(["file", "MB"], rows), "\n".join(_facts(report)))


def _facts(report: PushReport) -> list[str]:
    """Say in sentences what is where now."""
    facts = [f"Stays behind: {', '.join(report.left_out)}"] if report.left_out else []
    openness = "public" if report.public else "private"
    if report.dry_run:
        return [*facts, f"Nothing was sent; without --dry-run this goes to {report.repo_id} ({openness} if it is new)."]
    if report.also_there:
        facts.append(f"On the Hub, not in the folder, left as they are: {', '.join(report.also_there)}")
    if report.unchanged:
        facts.append(f"The Hub has these files already (commit {report.commit}): no new commit.")
    else:
        facts.append(
            f"Commit {report.commit}: the files have arrived as they were sent, and the model loads from there."
        )
    return [*facts, f"{report.url} ({openness})"]


VERB = Verb(
    help="Put a model folder on the Hugging Face Hub in one commit, and check that it arrived.",
    examples=(
        "hfcompress push out --repo-id me/small --dry-run",
        "hfcompress push out --repo-id me/small",
        "hfcompress push out --repo-id me/small --public --tag v1",
        "hfcompress push out --repo-id others/theirs --public --create-pr",
    ),
    groups=(PushOptions,),
    run=run,
)
