"""What the tests share: tiny random models of every family, a tiny tokenizer, tiny data; no network."""

import gc
import os
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
_cache = tempfile.TemporaryDirectory(prefix="hfcompress-tests-")
os.environ["HF_DATASETS_CACHE"] = _cache.name
os.environ.setdefault("HF_HOME", _cache.name)

import pytest

# Heavy imports stay inside the fixtures: the process that only hands the tests to others then starts at once.


@pytest.fixture(autouse=True)
def _threads_and_seed():
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="module", autouse=True)
def _quick_garbage_collection():
    """Leave what is loaded already out of collections: the Trainer asks for one in each run, over all of torch."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tokenizer():
    from tests.tiny import tiny_tokenizer

    return tiny_tokenizer()


@pytest.fixture
def teacher():
    return _model(layers=4)


@pytest.fixture
def student():
    return _model(layers=2)


def _model(**options):
    from tests.tiny import tiny_model

    return tiny_model("bert", **options)


@pytest.fixture(scope="session")
def teacher_dir(tmp_path_factory, tokenizer):
    """A saved teacher with a trained head and its tokenizer."""
    folder = tmp_path_factory.mktemp("teacher")
    _model(layers=4, id2label={0: "negative", 1: "positive"}).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def csv(tmp_path_factory):
    """Two classes that the words tell apart, 96 rows, columns text and label (negative, positive)."""
    from tests.tiny import write_csv

    return write_csv(tmp_path_factory.mktemp("data") / "reviews.csv", 96)


@pytest.fixture
def brisk(monkeypatch):
    """Measure less than a user would, where the numbers are not what is tested."""
    from tests.brisk import measure_less

    measure_less(monkeypatch)
