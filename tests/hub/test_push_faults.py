"""Whatever goes wrong: the Hub is whole or unchanged, the message says what to do, and the token is not in it."""

import traceback

import pytest

from hfcompress import errors
from hfcompress.errors import NetworkError, PushError, RequestError
from hfcompress.hub.push import push
from tests.hub.server import SIGNATURE, Handler
from tests.hub.state import Fault
from tests.hub.support import REPO, TOKEN, connect, contents, forget_connections
from tests.hub.test_push import commits

OLD = {"README.md": "old", "config.json": "{}"}
ALWAYS = 99
EXPECTED = {  # what the message says, by status
    401: "log in with `hf auth login`, or set hf_token",
    403: "use a token with write permission",
    404: "the hub refuses (http 404). it says: told to fail",
    409: "somebody else changed the repository at the same time. it says: told to fail",
    412: "somebody else changed the repository at the same time",
    429: "wait a few minutes, then run the same command again",
    500: "the hub has trouble (http 500). try later",
    503: "the hub has trouble (http 503). try later",
}
BEFORE_COMMIT = ["whoami", "info", "tree", "validate", "preupload", "batch", "upload", "check", "commit"]


@pytest.fixture
def old(hub):
    """A repository that holds something else."""
    return hub.add_repository(REPO, files=OLD)


def failure(small, kind=PushError, **options):
    """Push, and return the error's text; no text of the error may hold the token."""
    lines = []
    with pytest.raises(kind) as error:
        push(small, REPO, say=lines.append, **options)
    assert TOKEN not in "".join(traceback.format_exception(error.value)) + "".join(lines)
    return str(error.value)


def unchanged(hub):
    return hub.files(REPO) == {path: text.encode() for path, text in OLD.items()} and commits(hub) == []


@pytest.mark.parametrize("status", EXPECTED)
@pytest.mark.parametrize("stage", ["whoami", "preupload", "upload", "commit"])
def test_an_error_that_stays_leaves_the_hub_as_it_was(stage, status, hub, small, old):
    hub.fail(stage, status=status, times=ALWAYS)
    said = failure(small)
    assert EXPECTED[status] in said.lower()
    if stage != "whoami":
        assert "No file of me/small was changed." in said
    assert unchanged(hub)


@pytest.mark.parametrize("stage", BEFORE_COMMIT)
@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 503}, {"status": 429, "headers": {"Retry-After": "3"}}])
def test_passing_trouble_is_waited_out(stage, fault, hub, small, old):
    hub.fail(stage, **fault)
    report = push(small, REPO)
    assert hub.files(REPO) == contents(small)
    assert (report.unchanged, len(commits(hub))) == (False, 1)


@pytest.mark.parametrize("stage", BEFORE_COMMIT)
@pytest.mark.parametrize("way", ["cut", "lost"])
def test_a_connection_that_breaks_once_does_no_harm(stage, way, hub, small, old):
    hub.fail(stage, **{way: True})
    push(small, REPO)
    assert hub.files(REPO) == contents(small)
    assert len(commits(hub)) == 1


def test_a_connection_that_breaks_in_every_upload(hub, small, old):
    hub.fail("upload", cut=True, times=ALWAYS)
    said = failure(small, NetworkError)
    assert "cannot be reached, or the connection broke off. No file of me/small was changed." in said
    assert "Run the same command again" in said
    assert unchanged(hub)
    hub.faults.clear()
    push(small, REPO)
    assert hub.files(REPO) == contents(small)


def test_a_commit_whose_answer_is_lost_is_found_and_not_made_twice(hub, small, old):
    hub.fail("commit", lost=True)
    report = push(small, REPO)
    assert (report.unchanged, report.commit) == (False, old.refs["main"])
    assert (hub.count("commit"), len(commits(hub))) == (1, 1)


def test_a_pull_request_whose_answer_is_lost_is_found_and_not_opened_twice(hub, small, old):
    hub.fail("commit", lost=True)
    report = push(small, REPO, create_pr=True)
    assert (report.pull_request, len(old.proposals), hub.count("commit")) == (1, 1, 1)


def test_a_commit_of_which_nothing_is_known_says_so(hub, small, old):
    hub.fail("commit", lost=True)
    hub.fail("info", Fault(), Fault(), *[Fault(cut=True)] * ALWAYS)  # the first two come before the commit
    said = failure(small, NetworkError)
    assert (
        "Whether the commit to me/small was made is not known: run the same command again, it makes no second" in said
    )
    hub.faults.clear()
    assert push(small, REPO).unchanged is True
    assert len(commits(hub)) == 1


def test_somebody_else_who_was_faster_is_not_overwritten(hub, small, old):
    made = hub.take

    def take(stage):
        if stage == "commit" and hub.count("commit") == 1:
            old.commit({"README.md": hub.keep_blob(b"theirs")}, "main", "theirs")
        return made(stage)

    hub.take = take
    said = failure(small)
    assert "Somebody else changed the repository at the same time. It says: A commit has happened since." in said
    assert hub.files(REPO) == {"README.md": b"theirs"}


def test_somebody_else_who_was_faster_after_a_broken_connection(hub, small, old):
    made = hub.take

    def take(stage):
        if stage == "commit":
            old.commit({"README.md": hub.keep_blob(b"theirs")}, "main", "theirs")
            return Fault(cut=True)
        return made(stage)

    hub.take = take
    assert "Somebody else committed to me/small at the same time" in failure(small)
    assert hub.files(REPO) == {"README.md": b"theirs"}


def test_the_hub_says_how_long_to_wait(hub, small, old):
    hub.fail("commit", status=429, headers={"Retry-After": "900"})
    assert "Wait 900 seconds, then run the same command again. No file of me/small was changed." in failure(small)
    hub.fail("preupload", status=429, headers={"RateLimit": '"api";r=0;t=55'}, times=ALWAYS)
    assert "Wait 55 seconds" in failure(small)


@pytest.mark.parametrize("way", ["cut", "lost"])
def test_a_repository_is_made_once(way, hub, small):
    hub.fail("create", **{way: True})
    push(small, REPO)
    assert len(commits(hub)) == 1
    assert hub.repositories[REPO].private is True


def test_a_repository_that_was_made_and_stayed_empty_is_told(hub, small):
    hub.fail("commit", status=403)
    assert "me/small was made (private), and has none of the files yet." in failure(small)
    assert hub.files(REPO) == {}


def test_trouble_after_the_commit_is_told_as_such(hub, small, old):
    hub.fail("resolve", status=403, times=ALWAYS)
    said = failure(small)
    assert f"The files are on the Hub (commit {old.refs['main'][:10]}), but were not checked." in said
    assert hub.files(REPO) == contents(small)
    hub.faults.clear()
    assert push(small, REPO).unchanged is True


def test_a_tag_that_fails_is_made_by_the_next_push(hub, small, old):
    hub.fail("tag", status=403)
    assert "the tag 'v1' may be missing" in failure(small, tag="v1")
    report = push(small, REPO, tag="v1")
    assert (old.tags, report.unchanged) == ({"v1": report.commit}, True)


@pytest.mark.parametrize("stage", ["branch", "tag", "refs"])
@pytest.mark.parametrize("way", ["cut", "lost"])
def test_branches_and_tags_over_a_bad_connection(stage, way, hub, small, old):
    hub.fail(stage, **{way: True})
    report = push(small, REPO, branch="next", tag="v1")
    assert (hub.files(REPO, "next"), old.tags) == ({**contents(small)}, {"v1": report.commit})


def test_bytes_that_change_on_the_way_are_noticed(hub, small, old, monkeypatch):
    honest = hub.lfs_entry
    monkeypatch.setattr(hub, "lfs_entry", lambda oid, size: honest("0" * 64, size))
    said = failure(small)
    assert "The Hub does not hold what was sent" in said
    assert "model.safetensors, onnx/model.onnx" in said


def test_a_model_that_does_not_load_from_the_hub_is_told(hub, small, old, monkeypatch):
    def refuse(place, shown):
        raise errors.ModelError(errors.Fault(shown, f"its weights cannot be used: {place}/model.safetensors is odd."))

    monkeypatch.setattr("hfcompress.hub.verify.check_loads", refuse)
    said = failure(small)
    assert (
        "but me/small does not load from there: its weights cannot be used: me/small/model.safetensors is odd." in said
    )
    assert "Files of an earlier push that are still there may be why" in said
    assert hub.files(REPO) == contents(small)


def test_no_network(hub, small, monkeypatch):
    hub.endpoint = "http://127.0.0.1:9"
    connect(hub, monkeypatch)
    said = failure(small, NetworkError)
    assert said.startswith("The Hugging Face Hub cannot be reached, or the connection broke off. Nothing was sent.")


def test_offline_mode(hub, small, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    forget_connections()
    assert failure(small, NetworkError).startswith("HF_HUB_OFFLINE is set, so nothing is sent to the Hub. Unset it.")
    assert hub.requests == []


def test_a_card_that_the_hub_does_not_take(hub, small, old):
    (small / "README.md").write_text("---\nlicense: nonsense\n---\n# x\n")
    assert '"license" must be one of [apache-2.0, mit]' in failure(small)
    assert unchanged(hub)


def test_an_answer_that_is_not_the_hubs(hub, small, monkeypatch):
    monkeypatch.setattr(Handler, "whoami", lambda _: (200, b"<html>Log in to this hotel's network</html>"))
    assert "cannot be reached" in failure(small, NetworkError)


def test_an_expired_token(hub, small, old):
    hub.users.clear()
    assert "it is mistyped, expired or revoked. Log in with `hf auth login`" in failure(small)
    assert unchanged(hub)


@pytest.mark.parametrize("token", [f"{TOKEN}\nx", f"{TOKEN} ü"])
def test_a_token_that_cannot_be_one_is_not_shown(token, hub, small):
    with pytest.raises(RequestError) as error:
        push(small, REPO, token=token)
    assert "the access token has blanks or letters in it that no token has" in str(error.value)
    assert TOKEN not in "".join(traceback.format_exception(error.value))
    assert hub.requests == []


def test_the_token_is_nowhere_but_in_the_authorization_header(hub, small, capfd, monkeypatch):
    monkeypatch.setenv("HF_DEBUG", "1")
    hub.fail("upload", status=500)
    hub.fail("commit", lost=True)
    report = push(small, REPO, tag="v1", token=f" {TOKEN}\n", say=print)
    seen = capfd.readouterr()
    everything = hub.everything() + repr(report).encode() + (seen.out + seen.err).encode()
    assert TOKEN.encode() not in everything
    assert SIGNATURE not in seen.out + seen.err
