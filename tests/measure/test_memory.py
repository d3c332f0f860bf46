"""Peak memory of a fresh process, which grows with the model and not with the process that asks."""

import sys

import numpy as np
import pytest

from hfcompress.errors import HfcompressError
from hfcompress.measure.memory import peak_memory
from tests.measure.onnx_files import save
from tests.tiny import tiny_model

pytestmark = pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="nobody says the peak there")
IDS = {name: np.full((1, 8), 7) for name in ("input_ids", "attention_mask")}
TASK = "text-classification"


def test_the_model_is_seen_and_the_parent_is_not(tmp_path):
    ballast = np.ones(800_000_000, dtype=np.uint8)
    # 64 MB of weights that are all multiplied: of embeddings only the rows looked up are ever read from the file.
    large = save(tmp_path / "large", tiny_model(layers=1, intermediate_size=250_000))
    found = peak_memory(str(large), IDS, TASK)
    assert 60_000_000 < found["peak"] - found["bare"] < 300_000_000
    assert found["bare"] < ballast.nbytes


def test_an_onnx_file_needs_no_torch(exported):
    found = peak_memory(str(exported.float), IDS, TASK)
    assert 0 < found["peak"] - found["bare"] < 50_000_000
    assert found["bare"] < 150_000_000  # torch alone would be more


def test_a_process_that_fails_says_why(exported, tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no graph")
    with pytest.raises(HfcompressError, match="The memory of broken.onnx could not be measured"):
        peak_memory(str(broken), IDS, TASK)


def test_systems_that_do_not_say(monkeypatch, exported):
    monkeypatch.setattr("hfcompress.measure.memory.sys.platform", "win32")
    assert peak_memory(str(exported.float), IDS, TASK) is None
