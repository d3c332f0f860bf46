"""The recipe low-rank-vision runs from start to end, shortened; what comes out has chains and half of the work."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForImageClassification

from hfcompress.modeling.low_rank import ConvChain
from tests.cli.support import hfcompress

pytestmark = pytest.mark.usefixtures("brisk")
SHORT = {"num_train_epochs": 1, "per_device_train_batch_size": 16, "warmup_steps": 0, "save_strategy": "no"}


def test_the_students_convolutions_become_chains(tmp_path):
    words = ["data.max_train_samples=48", "steps.2.tucker.examples=32"]
    words += [
        f"steps.{index}.{method}.{key}={value}"
        for index, method in ((0, "finetune"), (1, "distill"), (3, "distill"))
        for key, value in SHORT.items()
        if key != "warmup_steps" or index < 3
    ]
    out = tmp_path / "out"
    done = hfcompress("run", "low-rank-vision", "--output-dir", out, *words, "--json")
    assert done.code == 0, done.err
    assert [step["name"] for step in done.json["steps"]] == ["teacher", "student", "factorized", "recovered"]
    model = AutoModelForImageClassification.from_pretrained(out)
    assert any(isinstance(module, ConvChain) for module in model.modules())
    (student,) = (out / "steps").glob("2-student-*")
    assert work(model) <= 0.51 * work(AutoModelForImageClassification.from_pretrained(student))


def work(model):
    """Multiply-accumulates for one digit."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(pixel_values=torch.rand(1, 3, 32, 32))
    return counter.get_total_flops() // 2
