"""The example that trains two students from one cache runs on a tiny model and tiny data."""

import sys

from transformers import AutoModelForSequenceClassification

from hfcompress.training.cached_teacher import is_cache
from tests.test_examples import load


def test_two_students_are_trained_from_one_cache(teacher_dir, csv, tmp_path, monkeypatch):
    words = ["cached_teacher.py", "--teacher", str(teacher_dir), "--data", str(csv), "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [*words, "--epochs", "1"])
    load("cached_teacher").main()
    assert is_cache(tmp_path / "answers")
    for name in ("half", "two layers"):
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path / name)
        assert model.config.num_hidden_layers == 2
        assert model.config.id2label == {0: "negative", 1: "positive"}
