"""Ranges of activations belong to the weights they were trained with: steps that follow `qat` drop them."""

import pytest
from transformers import AutoConfig

from hfcompress.quantization.trained_ranges import read_ranges
from tests.cli.support import hfcompress

pytestmark = pytest.mark.usefixtures("brisk")
TOLD = "the ranges of activations that were trained are dropped: this step changes the weights"


def test_a_step_after_qat_drops_its_ranges(recipe, tmp_path):
    qat = {"num_train_epochs": 1, "per_device_train_batch_size": 8, "save_strategy": "no"}
    path = recipe(steps=[{"qat": qat}, {"magnitude": {"sparsity": 0.5}}], keep_steps=True)
    done = hfcompress("run", path, "--output-dir", tmp_path / "out")
    assert done.code == 0, done.err
    assert done.err.count(TOLD) == 1
    (rounded,) = (tmp_path / "out" / "steps").glob("1-qat-*")
    assert read_ranges(AutoConfig.from_pretrained(rounded))
    assert not read_ranges(AutoConfig.from_pretrained(tmp_path / "out"))
