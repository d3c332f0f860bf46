"""The shipped recipe `vocabulary-trim` runs on a tiny model and tiny data, and what it leaves answers as before."""

import json

import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from tests.cli.support import hfcompress
from tests.tiny import GOOD, tiny_head, tiny_tokenizer, write_csv

pytestmark = pytest.mark.usefixtures("brisk")

SHORT = {"num_train_epochs": 1, "per_device_train_batch_size": 8, "warmup_steps": 0, "save_strategy": "no"}
UNUSED = [f"unused{number}" for number in range(40)]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_head("bert", "", vocab_size=80).save_pretrained(folder)
    tiny_tokenizer(UNUSED).save_pretrained(folder)
    return folder


def test_it_runs_and_leaves_the_words_that_the_texts_use(start, tmp_path):
    data = write_csv(tmp_path / "reviews.csv", 48)
    words = [f"model={start}", f"data.dataset={data}", "data.where={}", "data.validation=8", "data.max_length=16"]
    words += [f"steps.0.finetune.{name}={value}" for name, value in SHORT.items()]
    words += ["steps.1.vocabulary.multiple_of=1", "keep_steps=true"]
    done = hfcompress("run", "vocabulary-trim", "--output-dir", tmp_path / "out", *words, "--json")
    assert done.code == 0, done.err
    assert [step["name"] for step in done.json["steps"]] == ["finetuned", "trimmed"]
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert model.config.vocab_size == len(tokenizer) == 29
    assert not set(UNUSED) & set(tokenizer.get_vocab())
    (before,) = (tmp_path / "out" / "steps").glob("1-finetuned-*")
    both = [pipeline("text-classification", model=str(place))(GOOD) for place in (before, tmp_path / "out")]
    assert both[0] == both[1]
    steps = [step["after"]["metrics"] for step in done.json["steps"]]
    assert steps[0] == steps[1]
    assert json.loads((tmp_path / "out" / "config.json").read_text())["vocab_size"] == 29
