"""`--export onnx` and `--push-to-hub`: the whole way in one command, and what happens where its end is out of reach."""

import json

import pytest

from tests.cli.support import distill_words, hfcompress
from tests.hub.support import REPO, TOKEN, connect

pytestmark = pytest.mark.usefixtures("brisk")


def test_distil_export_and_push_in_one_command(hub, teacher_dir, csv, tmp_path):
    pytest.importorskip("onnxruntime")
    words = distill_words(teacher_dir, csv, tmp_path / "out", "--export", "onnx", "--push-to-hub", REPO, "--json")
    done = hfcompress(*words)
    assert done.code == 0, done.err
    names = [row["name"] for row in done.json["results"]]
    assert names == ["original", "student", "student ONNX", "student int8"]
    assert done.json["export"]["validation"]["label_agreement"] == 1
    assert done.json["pushed"]["url"].endswith(REPO)
    assert done.json["pushed"]["public"] is False
    remote = hub.files(REPO)
    assert {"README.md", "model.safetensors", "onnx/model.onnx", "onnx/model_quantized.onnx"} <= set(remote)
    record = json.loads(remote["compression.json"])
    assert record["recipe"]["export"] == {}
    assert TOKEN not in done.out + done.err


def test_without_a_token_nothing_is_trained(hub, teacher_dir, csv, tmp_path, monkeypatch):
    connect(hub, monkeypatch, token=None)
    done = hfcompress(*distill_words(teacher_dir, csv, tmp_path / "out", "--push-to-hub", REPO))
    assert done.code == 2
    assert "Log in with `hf auth login`" in done.err
    assert "step 1" not in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hub"]


def test_a_push_that_fails_leaves_the_model_and_says_how_to_push_it(hub, teacher_dir, csv, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise PushError("The Hub is full.")

    from hfcompress.errors import PushError

    monkeypatch.setattr("hfcompress.hub.push.push", fail)
    done = hfcompress(*distill_words(teacher_dir, csv, tmp_path / "out", "--push-to-hub", REPO, "--public"))
    assert done.code == 1
    assert f"hfcompress push {tmp_path / 'out'} --repo-id {REPO} --public" in done.err
    assert "error: The Hub is full." in done.err
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_a_backend_that_is_not_there_is_told_before_training(teacher_dir, csv, tmp_path, monkeypatch):
    monkeypatch.setattr("hfcompress.export.backends.optimum.OptimumBackend.check", lambda _: fail("optimum"))
    monkeypatch.setattr("hfcompress.export.backends.native.NativeBackend.check", lambda _: fail("onnx"))
    done = hfcompress(*distill_words(teacher_dir, csv, tmp_path / "out", "--export", "onnx"))
    assert done.code == 2
    assert "pip install 'hfcompress[optimum]'" in done.err
    assert "pip install 'hfcompress[onnx]'" in done.err
    assert not list(tmp_path.iterdir())


def fail(extra):
    from hfcompress.errors import RequestError

    raise RequestError(f"it is not installed: pip install 'hfcompress[{extra}]'")
