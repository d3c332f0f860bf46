"""What the tests share: tiny random models of every family, a tiny tokenizer, tiny data; no network."""

import os
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
_cache = tempfile.TemporaryDirectory(prefix="hfcompress-tests-")
os.environ["HF_DATASETS_CACHE"] = _cache.name

import pytest
import torch

from hfcompress.measure.bench import BenchSettings
from hfcompress.measure.latency import Effort
from tests.tiny import tiny_model, tiny_tokenizer, write_csv


@pytest.fixture(autouse=True)
def _threads_and_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture
def teacher():
    return tiny_model("bert", layers=4)


@pytest.fixture
def student():
    return tiny_model("bert", layers=2)


@pytest.fixture(scope="session")
def teacher_dir(tmp_path_factory, tokenizer):
    """A saved teacher with a trained head and its tokenizer."""
    folder = tmp_path_factory.mktemp("teacher")
    tiny_model("bert", layers=4, id2label={0: "negative", 1: "positive"}).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def csv(tmp_path_factory):
    """Two classes that the words tell apart, 96 rows, columns text and label (negative, positive)."""
    return write_csv(tmp_path_factory.mktemp("data") / "reviews.csv", 96)


@pytest.fixture
def brisk(monkeypatch):
    """Measure less than a user would, where the numbers are not what is tested."""
    monkeypatch.setattr("hfcompress.measure.size._macs", lambda *_: (1, 1))
    monkeypatch.setattr("hfcompress.measure.quality._RESAMPLES", 9)
    quick = BenchSettings((1,), (16,), (1,), Effort(rounds=2, warm_up=1), memory=False)
    for name in ("STANDARD", "HEADLINE"):
        monkeypatch.setattr(f"hfcompress.measure.bench.{name}", quick)
    monkeypatch.setattr("hfcompress.pipeline.measured.HEADLINE", quick)
    monkeypatch.setattr("hfcompress.pipeline.finishing.SETTINGS", quick)
    monkeypatch.setattr("hfcompress.pipeline.finishing._report", lambda *_: None)
