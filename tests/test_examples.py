"""Each example runs on a tiny model and tiny data."""

import importlib.util
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification

EXAMPLES = Path(__file__).parents[1] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("name", "source", "layers"), [("finetune", "--model", 4), ("distill", "--teacher", 2)])
def test_script_trains_and_saves_a_model_that_loads(name, source, layers, teacher_dir, csv, tmp_path, monkeypatch):
    words = [f"{name}.py", source, str(teacher_dir), "--data", str(csv), "--output", str(tmp_path), "--epochs", "1"]
    monkeypatch.setattr(sys, "argv", words)
    load(name).main()
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert model.config.num_hidden_layers == layers
    assert model.config.id2label == {0: "negative", 1: "positive"}


def test_custom_loss_is_registered_and_trains(teacher_dir, tmp_path):
    from hfcompress import registry

    module = load("custom_loss")
    student = module.main(str(teacher_dir), ["a warm film", "a dull film"] * 8, str(tmp_path))
    assert student.config.num_hidden_layers == 1
    assert registry.find("loss", "logit_huber").help.startswith("Huber loss on the logits")
    registry._methods.pop(("loss", "logit_huber"))


def test_every_example_is_named_in_the_readme_of_the_folder():
    text = (EXAMPLES / "README.md").read_text()
    assert [path.name for path in EXAMPLES.glob("*.py") if f"`{path.name}`" not in text] == []
