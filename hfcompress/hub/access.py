"""Whether a push may be made: a token that works, a namespace that is the user's, a repository as open as was asked."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hfcompress.config import gather
from hfcompress.errors import Fault, PushError, RequestError
from hfcompress.hub.checks import check_request
from hfcompress.hub.talking import LOG_IN, Say, patiently, quiet_client, silent

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_NOTHING_SENT = "Nothing was sent."


@dataclass(frozen=True)
class Access:
    """A repository that may be written to.

    Args:
        api: The client; it holds the token.
        repo_id: NAMESPACE/NAME.
        user: Who the token stands for.
        exists: Whether the repository is there already.
        private: Whether it is, or will be, private.
    """

    api: HfApi = field(repr=False)
    repo_id: str
    user: str
    exists: bool
    private: bool


def check_push(
    repo_id: str,
    *,
    public: bool = False,
    branch: str | None = None,
    tag: str | None = None,
    create_pr: bool = False,
    token: str | None = None,
    say: Say = silent,
) -> Access:
    """Make sure that a push can succeed, before a long run that ends with one; changes nothing on the Hub.

    Args:
        repo_id: NAMESPACE/NAME on the Hub.
        public: Whether the repository is to be public.
        branch: Where the commit goes; None for main.
        tag: A name for the commit.
        create_pr: Whether to open a pull request.
        token: An access token; None for the one of `hf auth login` or HF_TOKEN.
        say: Where waiting is told.

    Returns:
        What was found out.

    Raises:
        RequestError: A name cannot be one, there is no token, the namespace is not the user's, or the repository is
            more or less open than was asked.
        PushError: The Hub does not accept the token, or it may only read.
        NetworkError: The Hub cannot be reached.
    """
    gather(lambda: check_request(repo_id, branch, tag, create_pr), lambda: find_token(token))
    with quiet_client():
        access = open_access(repo_id, public, create_pr, find_token(token), say)
        if tag is not None and access.exists and tag in patiently(lambda: tags(access), say, _NOTHING_SENT):
            fix = "Choose another name: a push moves no tags."
            raise RequestError(Fault("--tag", f"{repo_id} has a tag '{tag}' already.", fix))
        return access


def known_token(given: str | None) -> str | None:
    """Return the token that was given, or else the one of `hf auth login` or HF_TOKEN, if there is any."""
    from huggingface_hub import get_token

    return (given or get_token() or "").strip() or None


def find_token(given: str | None) -> str:
    """Return the token to push with.

    Raises:
        RequestError: There is none, or it cannot be one; it is not shown.
    """
    token = known_token(given)
    if token is None:
        raise RequestError(Fault("", "there is no access token for the Hugging Face Hub.", LOG_IN))
    if not re.fullmatch(r"[!-~]+", token):
        # An HTTP client would show it whole in its complaint.
        raise RequestError(Fault("", "the access token has blanks or letters in it that no token has.", LOG_IN))
    return token


def open_access(repo_id: str, public: bool, create_pr: bool, token: str, say: Say) -> Access:
    """Ask the Hub who the token stands for and what is there; the arguments and errors are those of `check_push`."""
    from huggingface_hub import HfApi

    from hfcompress._version import __version__

    api = HfApi(token=token, library_name="hfcompress", library_version=__version__)
    who: dict[str, Any] = patiently(lambda: api.whoami(token=token), say, _NOTHING_SENT)
    if not create_pr:
        _require_namespace(repo_id, who)
        _require_write(who)
    info = patiently(lambda: find_repository(api, repo_id), say, _NOTHING_SENT)
    if info is None:
        if create_pr:
            fault = Fault("--create-pr", f"there is no repository {repo_id} to open a pull request in.")
            raise RequestError(fault)
        return Access(api, repo_id, who["name"], exists=False, private=not public)
    _require_visibility(repo_id, bool(info.private), public)
    return Access(api, repo_id, who["name"], exists=True, private=bool(info.private))


def find_repository(api: HfApi, repo_id: str, revision: str | None = None) -> Any:
    """Return what the Hub tells of a repository at a revision, or None when there is none that the token may see."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        return api.model_info(repo_id, revision=revision)
    except (RepositoryNotFoundError, RevisionNotFoundError):
        return None


def tags(access: Access) -> dict[str, str]:
    """Return the commit of every tag."""
    return {tag.name: tag.target_commit for tag in access.api.list_repo_refs(access.repo_id).tags}


def _require_namespace(repo_id: str, who: dict[str, Any]) -> None:
    """Refuse a namespace that is neither the user's nor one of their organizations'."""
    namespace = repo_id.partition("/")[0]
    organizations = {org["name"].casefold(): org for org in who.get("orgs") or []}
    if namespace.casefold() == who["name"].casefold():
        return
    organization = organizations.get(namespace.casefold())
    if organization is None:
        allowed = ", ".join([who["name"], *(org["name"] for org in organizations.values())])
        problem = f"'{namespace}' is neither your name on the Hub nor one of your organizations; allowed: {allowed}."
        raise RequestError(Fault("--repo-id", problem, "Or propose the files there with --create-pr."))
    if organization.get("roleInOrg") == "read":
        problem = f"you may only read in the organization '{namespace}'."
        raise RequestError(Fault("--repo-id", problem, "Ask one of its admins for the role to write."))


def _require_write(who: dict[str, Any]) -> None:
    """Refuse a token that may only read."""
    token = (who.get("auth") or {}).get("accessToken") or {}
    if token.get("role") == "read":
        fix = "Make one with write permission: https://huggingface.co/settings/tokens."
        raise PushError(f"The access token may only read. {fix} {LOG_IN} {_NOTHING_SENT}")


def _require_visibility(repo_id: str, private: bool, public: bool) -> None:
    """Refuse to show the files to more people than was asked for, or to fewer; the repository is never changed."""
    if not private and not public:
        problem = f"{repo_id} is there already and is public: everybody would see the files."
        fix = "Pass --public if that is meant; otherwise make it private in its settings, or choose another name."
        raise RequestError(Fault("--repo-id", problem, fix))
    if private and public:
        problem = f"{repo_id} is there already and is private; a push does not change that."
        raise RequestError(Fault("--public", problem, "Make it public in its settings, or leave --public out."))
