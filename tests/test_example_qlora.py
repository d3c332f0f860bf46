"""The example of QLoRA leaves a model in four bits that loads."""

import sys

import pytest
from transformers import AutoModelForSequenceClassification

from tests.test_examples import load

pytest.importorskip("peft")
bnb = pytest.importorskip("bitsandbytes")


def test_script_saves_a_model_in_four_bits(teacher_dir, csv, tmp_path, monkeypatch, brisk):
    words = ["qlora.py", "--model", str(teacher_dir), "--data", str(csv), "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as done:
        load("qlora").main()
    assert done.value.code == 0
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert any(isinstance(module, bnb.nn.Linear4bit) for module in model.modules())
