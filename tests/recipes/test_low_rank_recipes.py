"""The shipped recipes of low rank run on a tiny model and tiny data, and what they leave is of low rank and loads."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from hfcompress.modeling.low_rank import LowRankLinear
from hfcompress.modeling.targets import targets_of
from hfcompress.pipeline.recipe import read_recipe, shipped_recipes
from tests.cli.support import hfcompress
from tests.tiny import tiny_head, tiny_inputs, tiny_tokenizer, write_csv

pytestmark = pytest.mark.usefixtures("brisk")

SHORT = {"num_train_epochs": 1, "per_device_train_batch_size": 8, "save_strategy": "no"}
TINY = ("steps.1.activation.multiple=2", "steps.1.activation.examples=16")
TRAINED = ("finetune", "distill")


@pytest.fixture
def run(tmp_path):
    """Run a recipe on the tiny model and data, briefly; return what it printed and the models of its steps."""
    start, data = tmp_path / "start", write_csv(tmp_path / "reviews.csv", 48)
    tiny_head("bert", "").save_pretrained(start)
    tiny_tokenizer().save_pretrained(start)
    words = [f"model={start}", f"data.dataset={data}", "data.where={}", "data.validation=8", "data.max_length=16"]
    words += [*TINY, "keep_steps=true"]

    def run(name, *more):
        for index, step in enumerate(read_recipe(shipped_recipes()[name]).steps):
            method = next(key for key in step if key != "as")
            if method in TRAINED:
                words.extend(f"steps.{index}.{method}.{key}={value}" for key, value in SHORT.items())
        out = tmp_path / "out"
        done = hfcompress("run", name, "--output-dir", out, *words, *more, "--json")
        assert done.code == 0, done.err
        models = {step["name"]: load(next((out / "steps").glob(f"*{step['name']}*"))) for step in done.json["steps"]}
        return done.json, models

    return run


def load(folder):
    return AutoModelForSequenceClassification.from_pretrained(folder)


def share(model):
    """The share of the layers' parameters that is left."""
    left = sum(module.weight.numel() for module in targets_of(model).values())
    return left / sum(module.weight.numel() for module in targets_of(tiny_head("bert")).values())


def ranks(model):
    return {name: module.rank for name, module in model.named_modules() if isinstance(module, LowRankLinear)}


def test_low_rank(run, tmp_path):
    record, models = run("low-rank", "export.quantize=none")
    assert [step["name"] for step in record["steps"]] == ["finetuned", "factorized"]
    assert len(ranks(models["factorized"])) > 6
    assert 0.4 < share(models["factorized"]) <= 0.5
    assert record["results"][-1]["parameters"] == models["factorized"].num_parameters()
    assert (tmp_path / "out" / "onnx" / "model.onnx").is_file()


@pytest.mark.parametrize("name", ["low-rank-recovered", "low-rank-lora"])
def test_low_rank_recovered(name, run):
    record, models = run(name)
    factorized, student = models["factorized"], models["student"]
    assert record["steps"][-1]["config"]["teacher"] == "finetuned"
    assert ranks(student) == ranks(factorized)
    assert len(ranks(student)) > 6
    assert student.num_parameters() == record["results"][-1]["parameters"] == factorized.num_parameters()
    assert student.config.to_dict()["quantization_config"] == factorized.config.to_dict()["quantization_config"]
    with torch.no_grad():
        assert not torch.equal(*(model(**tiny_inputs(model)).logits for model in (factorized, student)))


def test_with_lora_the_rest_stays_and_the_factors_change_by_the_rank_of_the_adapters(run):
    _, models = run("low-rank-lora", "steps.2.distill.lora.rank=2")
    before, after = (models[name].state_dict() for name in ("factorized", "student"))
    assert before.keys() == after.keys()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    factors = [name for name in before if name.endswith((".down.weight", ".up.weight"))]
    assert changed == [*factors, "classifier.weight", "classifier.bias"]
    for name in factors:
        sizes = torch.linalg.svdvals(after[name].double() - before[name].double())
        assert sizes[0] > 0
        assert (sizes[2:] < 1e-3 * sizes[0]).all()
