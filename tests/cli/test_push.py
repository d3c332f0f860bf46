"""`hfcompress push`: the flags, what is printed, exit codes, and once in a process of its own."""

import json
import os
import subprocess
import sys

import pytest

from tests.cli.support import hfcompress
from tests.hub.support import REPO, TOKEN, contents, save_small


@pytest.fixture
def small(tmp_path):
    return save_small(tmp_path / "small")


def test_push_and_push_again(hub, small):
    done = hfcompress("push", small, "--repo-id", REPO, "--tag", "v1", "--json")
    assert done.code == 0, done.err
    assert done.json["commit"] == hub.repositories[REPO].refs["main"]
    assert (done.json["tag"], done.json["public"], done.json["unchanged"]) == ("v1", False, False)
    assert hub.files(REPO) == contents(small)
    again = hfcompress("push", small, "--repo-id", REPO, "--quiet")
    assert (again.code, again.err) == (0, "")
    assert "no new commit" in again.out
    assert f"{hub.endpoint}/{REPO} (private)" in again.out
    assert TOKEN not in done.out + done.err + again.out


def test_a_dry_run_lists_files_and_sizes(hub, small):
    done = hfcompress("push", small, "--repo-id", REPO, "--dry-run")
    assert done.code == 0
    assert all(path in done.out for path in contents(small))
    assert "onnx/model.onnx" in done.out
    assert "1.05" in done.out
    assert "Nothing was sent; without --dry-run this goes to me/small (private if it is new)." in done.out
    assert hub.requests == []


def test_missing_words():
    done = hfcompress("push")
    assert done.code == 2
    assert done.faults[0].startswith("--repo-id: ")
    done = hfcompress("push", "--repo-id", REPO)
    assert (done.code, done.faults) == (2, ["name a folder. For example: hfcompress push out --repo-id me/my-model"])


def test_every_fault_of_a_request_is_listed(hub, small):
    (small / "x.pkl").write_text("x")
    (small / "README.md").unlink()
    done = hfcompress("push", small, "--repo-id", "small", "--tag", "a b")
    assert done.code == 2
    assert [line.partition(":")[0] for line in done.faults[1:]] == ["--repo-id", "--tag", "README.md", "x.pkl"]
    assert hub.requests == []


def test_a_refusal_is_one_sentence_and_exit_code_1(hub, small):
    hub.fail("commit", status=403)
    done = hfcompress("push", small, "--repo-id", REPO)
    assert (done.code, done.out) == (1, "")
    (line,) = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert "Use a token with write permission" in line
    assert "Traceback" not in done.err
    assert TOKEN not in done.err


def test_in_a_process_of_its_own_with_the_environment_alone(hub, small, tmp_path):
    home = tmp_path / "hf"
    environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "HF_HOME": str(home)}
    environment |= {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HFCOMPRESS_DEBUG": "1"}
    words = [sys.executable, "-m", "hfcompress", "push", str(small), "--repo-id", REPO, "--json"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["commit"] == hub.repositories[REPO].refs["main"]
    assert hub.files(REPO) == contents(small)
    assert TOKEN not in done.stdout + done.stderr
    assert TOKEN.encode() not in hub.everything()
    assert not list(home.rglob("*.safetensors"))  # what was loaded to be tried is not kept
