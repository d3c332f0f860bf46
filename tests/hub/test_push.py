"""Pushing to a small Hub with the real client: one commit, whole, private, verified, and none where nothing changed."""

import pytest

from hfcompress.errors import RequestError
from hfcompress.hub.push import push
from tests.hub.support import REPO, contents


def told(error):
    """The text of what was raised."""
    return str(error.value)


def commits(hub, ref="main", repo=REPO):
    """The titles of a branch's commits, the first one left out."""
    return [message for where, _, message in hub.repositories[repo].history if where == ref][
        1 if ref == "main" else 0 :
    ]


def test_a_folder_goes_up_in_one_commit_to_a_new_private_repository(hub, small):
    report = push(small, REPO)
    assert hub.files(REPO) == contents(small)
    assert hub.repositories[REPO].private is True
    assert commits(hub) == ["Push small"]
    assert report.files == {path: len(data) for path, data in contents(small).items()}
    assert report.bytes == sum(report.files.values())
    assert report.commit == hub.repositories[REPO].refs["main"]
    assert (report.url, report.branch, report.public) == (f"{hub.endpoint}/{REPO}", "main", False)
    assert (report.unchanged, report.pull_request, report.also_there, report.left_out) == (False, None, [], [])


def test_large_files_go_through_lfs_and_small_ones_do_not(hub, small):
    push(small, REPO)
    entries = hub.repositories[REPO].commits[hub.repositories[REPO].refs["main"]]
    large = {path for path, entry in entries.items() if "lfs" in entry}
    assert large == {"model.safetensors", "onnx/model.onnx"}
    assert hub.count("upload") == 2


def test_the_model_is_loaded_from_the_hub_at_that_commit(hub, small):
    push(small, REPO)
    fetched = {path.name for path in (hub.root / "requests").iterdir() if path.name.endswith(("-resolve", "-download"))}
    asked = b"\n".join((hub.root / "requests" / name).read_bytes().split(b"\n")[0] for name in fetched).decode()
    commit = hub.repositories[REPO].refs["main"]
    assert f"/{REPO}/resolve/{commit}/config.json" in asked
    assert f"/{REPO}/resolve/{commit}/model.safetensors" in asked
    assert "onnx" not in asked


def test_the_same_folder_twice_makes_no_second_commit(hub, small):
    first = push(small, REPO)
    again = push(small, REPO)
    assert (again.unchanged, again.commit, again.files) == (True, first.commit, first.files)
    assert commits(hub) == ["Push small"]
    assert (hub.count("upload"), hub.count("commit")) == (2, 1)


def test_only_what_changed_is_sent_again(hub, small):
    push(small, REPO)
    (small / "README.md").write_text("---\nlicense: mit\n---\n# other\n")
    report = push(small, REPO, message="A better card")
    assert commits(hub) == ["Push small", "A better card"]
    assert hub.files(REPO) == contents(small)
    assert (hub.count("upload"), report.unchanged) == (2, False)


def test_files_that_others_put_there_stay(hub, small):
    hub.add_repository(REPO, files={"notes.txt": "mine", "README.md": "old"})
    report = push(small, REPO)
    assert hub.files(REPO) == {**contents(small), "notes.txt": b"mine"}
    assert report.also_there == ["notes.txt"]


def test_public_only_when_asked(hub, small):
    report = push(small, REPO, public=True)
    assert hub.repositories[REPO].private is False
    assert report.public is True


@pytest.mark.parametrize(
    ("private", "public", "words"),
    [
        (False, False, "me/small is there already and is public: everybody would see the files. Pass --public"),
        (True, True, "me/small is there already and is private; a push does not change that."),
    ],
)
def test_a_repository_is_never_opened_or_closed(private, public, words, hub, small):
    hub.add_repository(REPO, private)
    with pytest.raises(RequestError) as error:
        push(small, REPO, public=public)
    assert words in told(error)
    assert hub.repositories[REPO].private is private
    assert commits(hub) == []


def test_a_public_repository_takes_a_public_push(hub, small):
    hub.add_repository(REPO, private=False)
    assert push(small, REPO, public=True).public is True


def test_an_organization_of_the_user(hub, small):
    assert push(small, "acme/small").commit == hub.repositories["acme/small"].refs["main"]


def test_a_branch_is_made_and_main_stays(hub, small):
    hub.add_repository(REPO, files={"notes.txt": "mine"})
    report = push(small, REPO, branch="try/one")
    assert hub.files(REPO) == {"notes.txt": b"mine"}
    assert hub.files(REPO, "try/one") == {**contents(small), "notes.txt": b"mine"}
    assert (report.branch, report.url) == ("try/one", f"{hub.endpoint}/{REPO}/tree/try%2Fone")
    assert push(small, REPO, branch="try/one").unchanged is True
    assert commits(hub, "try/one") == ["Push small"]


def test_a_tag_names_the_commit_and_is_not_moved(hub, small):
    report = push(small, REPO, tag="v1")
    assert hub.repositories[REPO].tags == {"v1": report.commit}
    assert (push(small, REPO, tag="v1").tag, hub.count("tag")) == ("v1", 1)
    (small / "README.md").write_text("# other\n")
    with pytest.raises(RequestError, match=r"--tag: 'v1' is the name of commit \w{10}, which holds other files"):
        push(small, REPO, tag="v1")
    assert hub.repositories[REPO].tags == {"v1": report.commit}
    assert len(commits(hub)) == 1


def test_a_pull_request_leaves_main_alone_and_is_opened_once(hub, small):
    hub.add_repository("others/theirs", private=False, files={"README.md": "old"})
    report = push(small, "others/theirs", public=True, create_pr=True)
    assert hub.files("others/theirs") == {"README.md": b"old"}
    assert hub.files("others/theirs", "refs/pr/1") == contents(small)
    assert (report.pull_request, report.branch) == (1, None)
    assert report.url == f"{hub.endpoint}/others/theirs/discussions/1"
    again = push(small, "others/theirs", public=True, create_pr=True)
    assert (again.pull_request, again.unchanged, again.commit) == (1, True, report.commit)
    assert len(hub.repositories["others/theirs"].proposals) == 1


def test_a_pull_request_needs_a_repository(hub, small):
    with pytest.raises(RequestError, match=r"--create-pr: there is no repository me/small to open a pull request in"):
        push(small, REPO, create_pr=True)
    assert hub.repositories == {}


def test_a_dry_run_asks_nobody_and_needs_no_token(hub, small, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    report = push(small, REPO, dry_run=True)
    assert report.files == {path: len(data) for path, data in contents(small).items()}
    assert (report.dry_run, report.commit, report.url) == (True, None, None)
    assert hub.requests == []


def test_leftovers_stay_behind(hub, small):
    sent = contents(small)
    for name in ("a.partial", "model.safetensors.incomplete", ".gitignore", "b.tmp"):
        (small / name).write_text("x")
    for name in (".cache/huggingface", "checkpoint-12", "__pycache__", ".git"):
        (small / name).mkdir(parents=True)
        (small / name / "optimizer.pt").write_text("x")
    report = push(small, REPO)
    assert hub.files(REPO) == sent
    assert report.left_out == sorted(
        ["a.partial", "model.safetensors.incomplete", ".gitignore", "b.tmp", ".cache/", "checkpoint-12/"]
        + ["__pycache__/", ".git/"]
    )


def test_what_happens_is_told(hub, small):
    lines = []
    push(small, REPO, say=lines.append)
    assert lines[0] == f"Pushing {len(contents(small))} files (1.1 MB) to me/small, which is private."
    assert lines[1].startswith("Checking what is there (commit ")


def test_an_empty_file_and_odd_names(hub, small):
    (small / "empty.txt").touch()
    (small / "a b ü.txt").write_text("x")
    push(small, REPO)
    assert hub.files(REPO) == contents(small)
