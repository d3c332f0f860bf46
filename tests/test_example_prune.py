"""The example that prunes without training leaves a smaller model that loads."""

import sys

from transformers import AutoModelForSequenceClassification

from tests.test_examples import load


def test_script_saves_a_smaller_model_that_loads(teacher_dir, csv, tmp_path, monkeypatch, capsys):
    words = ["prune.py", "--model", str(teacher_dir), "--data", str(csv), "--output", str(tmp_path), "--macs", "0.5"]
    monkeypatch.setattr(sys, "argv", words)
    load("prune").main()
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert model.config.id2label == {0: "negative", 1: "positive"}
    assert model.num_parameters() < 40034
    assert capsys.readouterr().out.startswith(f"40034 parameters, then {model.num_parameters()}")
