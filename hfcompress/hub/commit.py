"""One commit, however often it has to be tried: what is on the Hub is looked at before every try and after the last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hfcompress.errors import PushError
from hfcompress.hub.access import Access
from hfcompress.hub.files import LocalFile
from hfcompress.hub.talking import WAITS, Say, explain, patiently, seconds_to_wait, wait_for
from hfcompress.hub.verify import differing, remote_files

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd

MAIN = "main"


@dataclass(frozen=True)
class Plan:
    """What is to be committed where.

    Args:
        access: The repository.
        files: The files.
        branch: The branch.
        create_pr: Whether to propose them in a pull request.
        message: The commit's title.
        say: Where progress is told.
    """

    access: Access
    files: Sequence[LocalFile]
    branch: str
    create_pr: bool
    message: str
    say: Say

    @property
    def state(self) -> str:
        """What is on the Hub before the commit."""
        if self.access.exists:
            return f"No file of {self.access.repo_id} was changed."
        openness = "private" if self.access.private else "public"
        return f"{self.access.repo_id} was made ({openness}), and has none of the files yet."


@dataclass(frozen=True)
class Landed:
    """Where the files are on the Hub.

    Args:
        commit: The commit's hash.
        pull_request: The number of the pull request that it belongs to, if any.
        new: Whether this push made it.
    """

    commit: str
    pull_request: int | None
    new: bool


@dataclass(frozen=True)
class _Seen:
    """What was there when it was looked at: the branch's last commit, where the files are, and which ones lack."""

    head: str
    landed: Landed | None
    lacking: list[str]


def commit_files(plan: Plan) -> Landed:
    """Commit the files that the Hub lacks or has otherwise, all in one commit; none where it has them all.

    An answer may be lost after a commit was taken. So a try is never repeated blindly: if the files are there it was
    taken, and if something else is, somebody else was faster.

    Args:
        plan: What goes where.

    Raises:
        PushError: The Hub refuses, or somebody else committed in the meantime.
        NetworkError: The Hub cannot be reached.
    """
    operations: list[CommitOperationAdd] = []
    first: str | None = None
    trouble: Exception | None = None
    for wait in (*WAITS, 0.0, None):
        seen = _look(plan, sent=trouble is not None)
        if seen.landed is not None:
            return Landed(seen.landed.commit, seen.landed.pull_request, new=trouble is not None)
        if first not in (None, seen.head):
            raise PushError(
                f"Somebody else committed to {plan.access.repo_id} at the same time ({seen.head[:10]}). {plan.state} "
                "Look at that commit, and push again if the files may be put over it."
            )
        first = seen.head
        if wait is None:
            break
        operations = operations or _operations(plan, seen.lacking)
        try:
            return _commit(plan, operations, seen.head)
        except Exception as error:
            pause = seconds_to_wait(error, wait)
            if pause is None:
                raise explain(error, plan.state) from error
            trouble = error
            if wait:
                wait_for(pause, error, plan.say)
    assert trouble is not None  # noqa: S101  (the loop ends here only after a failed try)
    raise explain(trouble, plan.state) from trouble


def _look(plan: Plan, sent: bool) -> _Seen:
    """Look at the branch, and for a pull request at the user's open ones too."""
    api, repo_id = plan.access.api, plan.access.repo_id
    unknown = (
        f"Whether the commit to {repo_id} was made is not known: run the same command again, it makes no second one."
    )
    state = unknown if sent else plan.state

    def look() -> _Seen:
        head = str(api.model_info(repo_id, revision=plan.branch).sha)
        lacking = differing(plan.files, remote_files(api, repo_id, head))
        landed = Landed(head, None, new=False) if not lacking else None
        return _Seen(head, landed or next(_proposed(plan), None), lacking)

    return patiently(look, plan.say, state)


def _proposed(plan: Plan) -> Iterator[Landed]:
    """Yield the user's open pull requests that hold the files already."""
    if not plan.create_pr:
        return
    api, repo_id = plan.access.api, plan.access.repo_id
    mine = api.get_repo_discussions(
        repo_id, author=plan.access.user, discussion_type="pull_request", discussion_status="open"
    )
    for proposal in mine:
        commit = str(api.model_info(repo_id, revision=proposal.git_reference).sha)
        if not differing(plan.files, remote_files(api, repo_id, commit)):
            yield Landed(commit, proposal.num, new=False)


def _operations(plan: Plan, names: Sequence[str]) -> list[CommitOperationAdd]:
    from huggingface_hub import CommitOperationAdd

    places = {file.path: file.place for file in plan.files}
    return [CommitOperationAdd(path_in_repo=name, path_or_fileobj=places[name]) for name in names]


def _commit(plan: Plan, operations: Sequence[CommitOperationAdd], parent: str) -> Landed:
    """Send the files and commit them on top of `parent`, and of nothing else."""
    made = plan.access.api.create_commit(
        plan.access.repo_id,
        operations,
        commit_message=plan.message,
        revision=plan.branch,
        create_pr=plan.create_pr,
        parent_commit=parent,
    )
    return Landed(made.oid, int(made.pr_num) if made.pr_num else None, new=True)
