"""Pushing a finished model folder to the Hub: checked before it leaves, one commit, checked again where it arrived."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hfcompress.config import gather
from hfcompress.errors import Fault, RequestError
from hfcompress.hub.access import Access, find_repository, find_token, known_token, open_access, tags
from hfcompress.hub.checks import check_folder, check_request
from hfcompress.hub.commit import MAIN, Plan, commit_files
from hfcompress.hub.talking import Say, patiently, quiet_client, silent
from hfcompress.hub.verify import differing, remote_files, require_room, verify


@dataclass(frozen=True)
class PushReport:
    """What a push did, or with `dry_run` would do.

    Args:
        repo_id: The repository.
        public: Whether it is public.
        files: Bytes by name of every file of the push.
        bytes: All of them together.
        left_out: What lies in the folder and stays behind: hidden files and leftovers.
        dry_run: Whether nothing was sent.
        url: Where it can be seen; None with `dry_run`, as all that follows.
        commit: The hash of the commit that holds the files.
        branch: Its branch; None for a pull request.
        pull_request: The number of the pull request.
        tag: The name given to the commit.
        unchanged: Whether the files were there already, so that there is no new commit.
        also_there: Files of the repository that the folder does not have; they were left as they are.
    """

    repo_id: str
    public: bool
    files: dict[str, int]
    bytes: int
    left_out: list[str]
    dry_run: bool = False
    url: str | None = None
    commit: str | None = None
    branch: str | None = None
    pull_request: int | None = None
    tag: str | None = None
    unchanged: bool = False
    also_there: list[str] = dataclasses.field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON can hold it."""
        return dataclasses.asdict(self)


def push(
    folder: str | Path,
    repo_id: str,
    *,
    public: bool = False,
    branch: str | None = None,
    tag: str | None = None,
    create_pr: bool = False,
    dry_run: bool = False,
    token: str | None = None,
    message: str | None = None,
    say: Say = silent,
) -> PushReport:
    """Put a model folder on the Hub, in one commit; the same folder pushed twice makes no second one.

    Files of the repository that the folder lacks stay as they are. A repository that is there already is never made
    public or private.

    Args:
        folder: A model folder with its card (README.md).
        repo_id: NAMESPACE/NAME; made if there is none, private unless `public`.
        public: Whether everybody may see it.
        branch: Where the commit goes, made if need be; None for main.
        tag: A name for the commit.
        create_pr: Whether to propose the files in a pull request.
        dry_run: Only check the folder and list its files; the Hub is not asked.
        token: An access token; None for the one of `hf auth login` or HF_TOKEN.
        message: The commit's title.
        say: Where progress is told.

    Returns:
        What was pushed, and where it is.

    Raises:
        RequestError: The folder holds what must not be published (secrets, pickles, links that lead out of it), lacks a
            card or is no model, or the names and options cannot be; all such faults. Nothing was sent.
        PushError: The Hub refuses, or does not hold what was sent.
        NetworkError: It cannot be reached.
        DiskSpaceError: There is no room to load the model from there.

    Example:
        >>> push("small", "me/small", dry_run=True).files  # doctest: +SKIP
        {'README.md': 5120, 'config.json': 812, 'model.safetensors': 45391240}
    """
    place = Path(folder)
    attempts: list[Callable[[], Any]] = [lambda: check_request(repo_id, branch, tag, create_pr)]
    if not dry_run:
        attempts.append(lambda: find_token(token))
    # The token is looked for in every file: not having one is told together with what else is wrong.
    secret = token if dry_run else known_token(token)
    *_, found = gather(*attempts, lambda: check_folder(place, secret))
    sizes = {file.path: file.size for file in found.files}
    report = PushReport(repo_id, public, sizes, sum(sizes.values()), found.left_out, dry_run=dry_run)
    if dry_run:
        return report
    require_room(found.files)
    with quiet_client():
        access = open_access(repo_id, public, create_pr, find_token(token), say)
        plan = Plan(access, found.files, branch or MAIN, create_pr, message or f"Push {place.resolve().name}", say)
        return _send(plan, report, tag)


def _send(plan: Plan, report: PushReport, tag: str | None) -> PushReport:
    """Make the repository and the branch where need be, commit, verify, tag."""
    api, repo_id, say = plan.access.api, plan.access.repo_id, plan.say
    if not plan.access.exists:
        patiently(lambda: _create_repository(plan.access), say, f"{repo_id} was not made.")
    if plan.branch != MAIN:
        patiently(lambda: _create_branch(plan.access, plan.branch), say, plan.state)
    tagged = tag is not None and _is_tagged(plan, tag)
    megabytes = sum(file.size for file in plan.files) / 1e6
    openness = "private" if plan.access.private else "public"
    say(f"Pushing {len(plan.files)} files ({megabytes:,.1f} MB) to {repo_id}, which is {openness}.")
    landed = commit_files(plan)
    say(f"Checking what is there (commit {landed.commit[:10]}).")
    remote = verify(api, repo_id, landed.commit, plan.files, say)
    if tag is not None and not tagged:
        state = f"The files are on the Hub (commit {landed.commit[:10]}); the tag '{tag}' may be missing."
        patiently(lambda: _create_tag(plan.access, tag, landed.commit), say, state)
    page = f"{api.endpoint}/{repo_id}"
    return dataclasses.replace(
        report,
        public=not plan.access.private,
        url=f"{page}/discussions/{landed.pull_request}" if landed.pull_request else _page_of(page, plan.branch),
        commit=landed.commit,
        branch=None if landed.pull_request else plan.branch,
        pull_request=landed.pull_request,
        tag=tag,
        unchanged=not landed.new,
        also_there=sorted(set(remote) - set(report.files) - {".gitattributes"}),
    )


def _page_of(page: str, branch: str) -> str:
    return page if branch == MAIN else f"{page}/tree/{quote(branch, safe='')}"


def _create_repository(access: Access) -> None:
    """Make the repository, unless an earlier try did and its answer was lost."""
    if find_repository(access.api, access.repo_id) is None:
        access.api.create_repo(access.repo_id, private=access.private)


def _create_branch(access: Access, branch: str) -> None:
    if find_repository(access.api, access.repo_id, branch) is None:
        access.api.create_branch(access.repo_id, branch=branch)


def _create_tag(access: Access, tag: str, commit: str) -> None:
    if tag not in tags(access):
        access.api.create_tag(access.repo_id, tag=tag, revision=commit)


def _is_tagged(plan: Plan, tag: str) -> bool:
    """Say whether the tag stands already, at a commit with these files.

    Raises:
        RequestError: It stands at one with others.
    """
    api, repo_id = plan.access.api, plan.access.repo_id
    commit = patiently(lambda: tags(plan.access), plan.say, plan.state).get(tag)
    if commit is None:
        return False
    if differing(plan.files, patiently(lambda: remote_files(api, repo_id, commit), plan.say, plan.state)):
        problem = f"'{tag}' is the name of commit {commit[:10]}, which holds other files; a push moves no tags."
        raise RequestError(Fault("--tag", problem, f"Choose another name. {plan.state}"))
    return True
