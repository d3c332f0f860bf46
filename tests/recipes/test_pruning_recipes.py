"""The shipped recipes that prune run on a tiny model and tiny data, and what they leave is pruned as they say."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from hfcompress.modeling.targets import targets_of
from hfcompress.pipeline.recipe import read_recipe, shipped_recipes
from tests.cli.support import hfcompress
from tests.tiny import tiny_head, tiny_tokenizer, write_csv

pytestmark = pytest.mark.usefixtures("brisk")

SHORT = {"num_train_epochs": 1, "per_device_train_batch_size": 8, "save_strategy": "no"}
TRAINED = ("finetune", "distill", "magnitude", "movement")


@pytest.fixture
def run(tmp_path):
    """Run a recipe on the tiny model and data, briefly; return what it printed and the model."""
    start, data = tmp_path / "start", write_csv(tmp_path / "reviews.csv", 48)
    tiny_head("bert", "").save_pretrained(start)
    tiny_tokenizer().save_pretrained(start)
    words = [f"model={start}", f"data.dataset={data}", "data.where={}", "data.validation=8", "data.max_length=16"]

    def run(name, *more):
        for index, step in enumerate(read_recipe(shipped_recipes()[name]).steps):
            method = next(key for key in step if key != "as")
            if method in TRAINED:
                words.extend(f"steps.{index}.{method}.{key}={value}" for key, value in SHORT.items())
        done = hfcompress("run", name, "--output-dir", tmp_path / "out", *words, *more, "--json")
        assert done.code == 0, done.err
        return done.json, AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")

    return run


def zeros(model):
    """The share of the layers' weights that is zero."""
    weights = torch.cat([module.weight.flatten() for module in targets_of(model).values()])
    return (weights == 0).float().mean().item()


def test_movement_pruning(run):
    record, model = run("movement-pruning", "steps.1.movement.remove_empty=false")
    assert [step["name"] for step in record["steps"]] == ["finetuned", "pruned"]
    assert zeros(model) == pytest.approx(0.85, abs=0.001)


def test_iterative_magnitude(run):
    record, model = run("iterative-magnitude")
    names = [step["name"] for step in record["steps"]]
    assert names == ["finetuned", "30-percent", "50-percent", "70-percent", "80-percent"]
    shares = [result["zeros"] for result in record["results"][-5:]]
    assert shares == sorted(shares)
    assert zeros(model) == pytest.approx(0.8, abs=0.001)


def test_retraining_free(run, tmp_path):
    more = ("steps.1.fisher.multiple=4", "steps.1.fisher.examples=16", "export.quantize=none")
    record, model = run("retraining-free", *more)
    assert [step["name"] for step in record["steps"]] == ["finetuned", "pruned"]
    assert model.num_parameters() < tiny_head("bert", "ForSequenceClassification").num_parameters()
    assert (tmp_path / "out" / "onnx" / "model.onnx").is_file()


def test_prune_then_distill(run):
    record, model = run("prune-then-distill", "steps.1.fisher.multiple=4", "steps.1.fisher.examples=16")
    first, pruned, student = record["results"][-3:]
    assert [first["name"], pruned["name"], student["name"]] == ["finetuned", "pruned", "student"]
    assert model.num_parameters() == student["parameters"] == pruned["parameters"] < first["parameters"]
    assert record["steps"][-1]["config"]["teacher"] == "finetuned"
