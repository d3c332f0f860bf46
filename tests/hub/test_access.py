"""Whether a push can succeed is known before a long run: token, namespace, role, openness; nothing is changed."""

import pytest

from hfcompress.errors import PushError, RequestError
from hfcompress.hub.access import check_push
from tests.hub.support import REPO, TOKEN


def test_a_push_that_can_be_made(hub):
    access = check_push(REPO)
    assert (access.user, access.exists, access.private) == ("me", False, True)
    assert hub.repositories == {}
    hub.add_repository(REPO)
    assert check_push(REPO, branch="next", tag="v1").exists is True
    assert TOKEN not in repr(access)
    assert set(hub.requests) == {"whoami", "info", "refs"}


@pytest.mark.parametrize(
    ("repo_id", "words"),
    [
        ("small", "--repo-id: takes NAMESPACE/NAME"),
        ("me/", "--repo-id: takes NAMESPACE/NAME"),
        ("a/b/c", "--repo-id: takes NAMESPACE/NAME"),
        ("./out", "--repo-id: takes NAMESPACE/NAME"),
        ("me/a..b", "--repo-id: takes NAMESPACE/NAME"),
        ("me/" + "x" * 97, "--repo-id: takes NAMESPACE/NAME"),
        ("google/bert", "'google' is neither your name on the Hub nor one of your organizations; allowed: me, acme"),
        ("museum/small", "you may only read in the organization 'museum'"),
    ],
)
def test_a_name_that_is_no_place_of_the_users(repo_id, words, hub):
    with pytest.raises(RequestError) as error:
        check_push(repo_id)
    assert words in str(error.value)


@pytest.mark.parametrize("name", ["-x", "a b", "a..b", "refs/heads/x", "x/", "a~b", ""])
def test_names_that_git_does_not_allow_are_told_all_at_once(name, hub):
    with pytest.raises(RequestError) as error:
        check_push("small", branch=name, tag=name)
    assert [fault.where for fault in error.value.faults] == ["--repo-id", "--branch", "--tag"]
    assert hub.requests == []


def test_what_does_not_go_with_a_pull_request(hub):
    with pytest.raises(RequestError) as error:
        check_push(REPO, branch="next", tag="v1", create_pr=True)
    assert [fault.where for fault in error.value.faults] == ["--branch", "--tag"]


def test_no_token_is_told_together_with_what_else_is_wrong(hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(RequestError) as error:
        check_push("small")
    assert len(error.value.faults) == 2
    assert "there is no access token for the Hugging Face Hub. Log in with `hf auth login`, or set HF_TOKEN" in str(
        error.value
    )
    assert hub.requests == []


def test_a_token_that_may_only_read(hub):
    hub.add_user("me", TOKEN, role="read")
    with pytest.raises(PushError, match="The access token may only read. Make one with write permission"):
        check_push(REPO)


def test_a_tag_that_is_taken(hub):
    hub.add_repository(REPO).tags["v1"] = "0" * 40
    with pytest.raises(RequestError, match="--tag: me/small has a tag 'v1' already"):
        check_push(REPO, tag="v1")


def test_a_private_repository_of_others_is_as_if_it_were_not_there(hub):
    hub.add_repository("others/theirs", private=True)
    with pytest.raises(RequestError, match="--create-pr: there is no repository others/theirs"):
        check_push("others/theirs", create_pr=True)
