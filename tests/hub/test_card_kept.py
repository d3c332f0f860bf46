"""The cards in `model_cards/` are what hfcompress writes today from the records beside them."""

import importlib.util
from pathlib import Path

import pytest

from hfcompress.hub.card import is_ours
from tests.hub.cards import make_folder

FOLDER = Path(__file__).parents[2] / "model_cards"
KEPT = sorted(path.parent for path in FOLDER.glob("*/compression.json"))


@pytest.fixture(scope="module")
def collect():
    spec = importlib.util.spec_from_file_location("collect", FOLDER / "collect.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_cards():
    assert KEPT


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.name)
def test_a_kept_card_is_written_again_byte_for_byte(kept, collect, tmp_path):
    assert collect.rewrite(kept, tmp_path).read_bytes() == (kept / "README.md").read_bytes()
    assert is_ours(kept / "README.md")
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_collecting_keeps_no_weights(collect, tmp_path, monkeypatch):
    monkeypatch.setattr(collect, "__file__", str(tmp_path / "kept" / "collect.py"))
    (tmp_path / "kept").mkdir()
    out = make_folder(tmp_path / "out")
    card = collect.collect(out, "reviews")
    names = {path.relative_to(card.parent).as_posix() for path in card.parent.rglob("*") if path.is_file()}
    assert names == {
        *("README.md", "compression.json", "measurements.json", "config.json", "files.txt", "figures/tradeoff.png"),
    }
    assert 'file_name="model_quantized.onnx"' in card.read_text(encoding="utf-8")
    assert collect.rewrite(card.parent, tmp_path).read_bytes() == card.read_bytes()
