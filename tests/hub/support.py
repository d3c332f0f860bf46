"""What the tests of pushing share: a client that talks to the small Hub, and a folder worth pushing."""

import importlib

import huggingface_hub
from huggingface_hub import constants

from tests.tiny import tiny_model, tiny_tokenizer

TOKEN = "hf_CanaryCanaryCanaryCanaryCanary1234"  # noqa: S105
REPO = "me/small"
CARD = "---\nlicense: apache-2.0\nbase_model: google-bert/bert-base-uncased\n---\n# small\n"


def connect(hub, monkeypatch, token=TOKEN):
    """Let the client in this process talk to a small Hub, as fast as it can, and nowhere else."""
    template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(hub.root / "no-token"))
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    forget_connections()


def forget_connections():
    """Close the client's connections: version 0.36 opens others when it is offline."""
    module = importlib.import_module("huggingface_hub.utils._http")
    (getattr(module, "reset_sessions", None) or huggingface_hub.close_session)()


def save_small(folder, seed=0):
    """Save a model folder as a verb leaves it: checkpoint, tokenizer, card, ONNX file."""
    tiny_model("bert", layers=1, seed=seed, id2label={0: "negative", 1: "positive"}).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    (folder / "README.md").write_text(CARD)
    (folder / "compression.json").write_text('{"task": "text-classification"}')
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(bytes(range(256)) * 4096)
    return folder


def contents(folder):
    """The bytes of every file of a folder, by name."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
