"""The recipe `deep-compression` runs on a tiny model and tiny data; its packed file holds the model that it left."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tests.cli.support import hfcompress
from tests.tiny import tiny_head, tiny_tokenizer, write_csv

SHORT = {"num_train_epochs": 1, "per_device_train_batch_size": 8, "save_strategy": "no"}
STEPS = {0: "finetune", 2: "movement", 3: "kmeans"}


def test_it_prunes_shares_and_packs(tmp_path, brisk):
    start, data = tmp_path / "start", write_csv(tmp_path / "reviews.csv", 48)
    tiny_head("bert", "").save_pretrained(start)
    tiny_tokenizer().save_pretrained(start)
    words = [f"model={start}", f"data.dataset={data}", "data.where={}", "data.validation=8", "data.max_length=16"]
    for index, step in STEPS.items():
        words += [f"steps.{index}.{step}.{key}={value}" for key, value in SHORT.items()]
    done = hfcompress("run", "deep-compression", "--output-dir", tmp_path / "out", *words, "--json")
    assert done.code == 0, done.err
    assert [step["name"] for step in done.json["steps"]] == ["finetuned", "trimmed", "pruned", "shared"]
    packed = done.json["packed"]
    assert packed["file"] == "model.hfz"
    assert packed["bytes"] == (tmp_path / "out" / "model.hfz").stat().st_size < packed["unpacked_bytes"]
    again = hfcompress("unpack", tmp_path / "out" / "model.hfz", "--output-dir", tmp_path / "again", "--json")
    assert again.code == 0, again.err
    assert again.json["bytes"] == packed["unpacked_bytes"]
    one, other = (AutoModelForSequenceClassification.from_pretrained(tmp_path / name) for name in ("out", "again"))
    assert all(torch.equal(weight, other.get_parameter(name)) for name, weight in one.named_parameters())
    matrices = {row["name"]: row for row in done.json["steps"][3]["findings"]["weight_sharing"]["matrices"]}
    tables = {name: matrices.pop(name) for name in list(matrices) if "embeddings" in name}
    assert all(row["values"] <= 17 for row in matrices.values())
    assert all(row["values"] <= 9 for row in tables.values())
    layers = [row for name, row in matrices.items() if "encoder" in name]
    zeros, weights = (sum(row[key] for row in layers) for key in ("zeros", "weights"))
    assert zeros == pytest.approx(0.7 * weights, abs=50)
