"""The recipe `deep-compression` runs on a tiny model and tiny data; its packed file holds the model that it left."""

import torch
from transformers import AutoModelForSequenceClassification

from tests.cli.support import hfcompress
from tests.tiny import tiny_head, tiny_tokenizer, write_csv

SHORT = {"num_train_epochs": 1, "per_device_train_batch_size": 8, "save_strategy": "no"}
STEPS = ["finetune", "magnitude", "kmeans"]


def test_it_prunes_shares_and_packs(tmp_path, brisk):
    start, data = tmp_path / "start", write_csv(tmp_path / "reviews.csv", 48)
    tiny_head("bert", "").save_pretrained(start)
    tiny_tokenizer().save_pretrained(start)
    words = [f"model={start}", f"data.dataset={data}", "data.where={}", "data.validation=8", "data.max_length=16"]
    for index, step in enumerate(STEPS):
        words += [f"steps.{index}.{step}.{key}={value}" for key, value in SHORT.items()]
    done = hfcompress("run", "deep-compression", "--output-dir", tmp_path / "out", *words, "--json")
    assert done.code == 0, done.err
    assert [step["name"] for step in done.json["steps"]] == ["finetuned", "pruned", "shared"]
    packed = done.json["packed"]
    assert packed["file"] == "model.hfz"
    assert packed["bytes"] == (tmp_path / "out" / "model.hfz").stat().st_size < packed["unpacked_bytes"]
    again = hfcompress("unpack", tmp_path / "out" / "model.hfz", "--output-dir", tmp_path / "again", "--json")
    assert again.code == 0, again.err
    assert again.json["bytes"] == packed["unpacked_bytes"]
    one, other = (AutoModelForSequenceClassification.from_pretrained(tmp_path / name) for name in ("out", "again"))
    assert all(torch.equal(weight, other.get_parameter(name)) for name, weight in one.named_parameters())
    matrices = [row for row in done.json["steps"][2]["findings"]["weight_sharing"]["matrices"]]
    assert all(row["values"] <= 17 for row in matrices)
    zeros = sum(row["zeros"] for row in matrices)
    assert 0.7 < zeros / sum(row["weights"] for row in matrices) < 0.8
