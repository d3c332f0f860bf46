"""Every shipped recipe runs from start to end, on a tiny model and tiny data in the places of the real ones."""

import json

import pytest
import yaml

from hfcompress.pipeline.recipe import shipped_recipes
from tests.cli.support import hfcompress
from tests.tiny import BAD, GOOD, sentences, tiny_head, tiny_tokenizer

ELSEWHERE = {
    "quickstart": "tests/integration/test_quickstart.py",
    "vocabulary-trim": "tests/recipes/test_vocabulary_trim.py",
    **dict.fromkeys(
        ["movement-pruning", "iterative-magnitude", "retraining-free", "prune-then-distill"],
        "tests/recipes/test_pruning_recipes.py",
    ),
    **dict.fromkeys(["low-rank", "low-rank-recovered", "low-rank-lora"], "tests/recipes/test_low_rank_recipes.py"),
    "low-rank-vision": "tests/recipes/test_low_rank_vision.py",
    "four-bit-qlora": "tests/recipes/test_four_bit.py",
    "deep-compression": "tests/recipes/test_deep_compression.py",
    **dict.fromkeys(["qat-int8", "prune-quantize-distill"], "tests/recipes/test_qat_recipes.py"),
    **dict.fromkeys(["int8-edge", "static-int8"], "tests/recipes/test_onnx_quantization_recipes.py"),
}
"""Recipes that another test runs."""

SHORT = {"num_train_epochs": 1, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "warmup_steps": 0}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def save(folder, model, tokenizer=None):
    model.save_pretrained(folder)
    (tokenizer or tiny_tokenizer()).save_pretrained(folder)
    return folder


pytestmark = pytest.mark.usefixtures("brisk")


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A file of each kind of rows, in the columns that the recipes name."""
    folder = tmp_path_factory.mktemp("texts")
    rows = [{"text": text, "label": label} for text, label in sentences(40)]
    words = [row["text"].split() for row in rows]
    first = [row["text"].split()[0] for row in rows]
    tags = [["B-GOOD" if w in GOOD else "B-BAD" if w in BAD else "O" for w in row] for row in words]
    return {
        "plain": write(folder / "plain.jsonl", [{"text": row["text"]} for row in rows]),
        "classes": write(folder / "classes.jsonl", [{"sentence": r["text"], "label": r["label"]} for r in rows]),
        "tags": write(folder / "tags.jsonl", [{"tokens": w, "ner_tags": t} for w, t in zip(words, tags, strict=True)]),
        "answers": write(
            folder / "answers.jsonl",
            [
                {"question": "is the film", "context": row["text"], "answers": {"text": [word], "answer_start": [0]}}
                for row, word in zip(rows, first, strict=True)
            ],
        ),
        "summaries": write(
            folder / "summaries.jsonl",
            [{"article": row["text"], "highlights": word} for row, word in zip(rows, first, strict=True)],
        ),
        "pairs": write(
            folder / "pairs.jsonl",
            [
                {"sentence1": one["text"], "sentence2": two["text"], "score": float(one["label"] == two["label"])}
                for one, two in zip(rows[:20], rows[20:], strict=True)
            ],
        ),
    }


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A tiny model for each kind of recipe."""
    folder = tmp_path_factory.mktemp("models")
    twelve = {"num_attention_heads": 12, "hidden_size": 48, "num_hidden_layers": 6}
    return {
        "bert": save(folder / "bert", tiny_head("bert", "ForMaskedLM", layers=6)),
        "twelve": save(folder / "twelve", tiny_head("bert", "ForMaskedLM", **twelve)),
        "gpt2": save(folder / "gpt2", tiny_head("gpt2", "ForCausalLM", layers=6)),
        "bart": save(folder / "bart", tiny_head("bart", "ForSeq2SeqLM", layers=12)),
        "embedder": save(folder / "embedder", tiny_head("bert", "")),
        "smaller": save(folder / "smaller", tiny_head("bert", "", hidden_size=16), tiny_tokenizer(["zebra"])),
    }


INSTEAD = {
    "distilbert-style": ("bert", "plain", {}),
    "tinybert-style": ("twelve", "classes", {}),
    "minilm": ("twelve", "plain", {}),
    "ner": ("bert", "tags", {"student": "cut:layers=3"}),
    "question-answering": ("bert", "answers", {"student": "cut:layers=3"}),
    "causal-lm": ("gpt2", "plain", {"student": "cut:layers=3"}),
    "seq2seq": ("bart", "summaries", {}),
    "sentence-embeddings": ("embedder", "pairs", {"student": "smaller"}),
    "resnet-vision": (None, None, {}),
}
"""Model, data and options that stand in for what each recipe names."""
FEWER = "data.max_train_samples=64"
"""Of a recipe that keeps its own data."""


def test_every_recipe_is_run_somewhere():
    assert set(shipped_recipes()) == set(INSTEAD) | set(ELSEWHERE)


@pytest.mark.parametrize("name", INSTEAD)
def test_it_runs_and_leaves_a_model_with_its_record(name, models, texts, tmp_path):
    model, rows, changed = INSTEAD[name]
    words = [f"model={models[model]}"] if model else []
    words += [f"data.dataset={texts[rows]}", "data.validation=8", "data.max_length=16"] if rows else [FEWER]
    recipe = yaml.safe_load(shipped_recipes()[name].read_text())
    for index, step in enumerate(recipe["steps"]):
        method = next(key for key in step if key != "as")
        options = {**SHORT, "save_strategy": "no"}
        if "student" in step[method]:
            options |= {key: models.get(value, value) for key, value in changed.items()}
        words += [f"steps.{index}.{method}.{key}={value}" for key, value in options.items()]
    done = hfcompress("run", name, "--output-dir", tmp_path / "out", *words, "--json")
    assert done.code == 0, done.err
    assert done.json["task"] == recipe["task"]
    assert [step["name"] for step in done.json["steps"]] == [step["as"] for step in recipe["steps"]]
    last = done.json["results"][-1]
    assert 0 <= last["quality"]["metrics"][last["quality"]["main"]] <= 1 or recipe["task"] == "sentence-similarity"
    assert last["parameters"] == done.json["results"][-1]["parameters"] > 0
    assert (tmp_path / "out" / "model.safetensors").is_file()
