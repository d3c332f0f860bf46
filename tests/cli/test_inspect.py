"""`hfcompress inspect`: parameters, bytes and MACs of any architecture, from the config alone."""

import pytest
from transformers import AutoConfig, AutoModelForSequenceClassification

from hfcompress.modeling import load
from tests.cli.support import hfcompress
from tests.tiny import FAMILIES, tiny_config, tiny_model

OTHERS = {
    "albert": {"embedding_size": 16},
    "mobilebert": {"embedding_size": 16, "intra_bottleneck_size": 16, "num_feedforward_networks": 2},
    "squeezebert": {"embedding_size": 32},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "longformer": {"attention_window": 16},  # looks at the mask's values
}


def save(folder, family):
    config = tiny_config(family, **OTHERS.get(family, {}))
    model = AutoModelForSequenceClassification.from_config(config)
    model.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("family", [*FAMILIES, *OTHERS])
def test_every_architecture(family, tmp_path):
    count = save(tmp_path / "model", family)
    done = hfcompress("inspect", tmp_path / "model", "--json", "--length", "16")
    assert done.code == 0, done.err
    found = done.json
    assert (found["model_type"], found["layers"], found["length"]) == (family, 2, 16)
    assert found["parameters"] == sum(found["components"].values()) == count
    assert found["bytes_on_disk"] == (tmp_path / "model" / "model.safetensors").stat().st_size
    assert found["macs"] > 0
    if family in FAMILIES:
        assert set(found["components"]) == {"embeddings", "attention", "ffn", "norm", "head"}


def test_no_weights_are_needed(tmp_path):
    tiny_config("bert").save_pretrained(tmp_path)
    done = hfcompress("inspect", tmp_path, "--json")
    assert done.json["parameters"] == sum(p.numel() for p in tiny_model("bert").parameters())
    assert done.json["bytes_on_disk"] == 0


def test_weights_are_not_loaded(teacher_dir, monkeypatch):
    monkeypatch.setattr(load, "load_model", lambda *_: 1 / 0)
    done = hfcompress("inspect", teacher_dir)
    assert done.code == 0
    assert "bert, 4 layers of width 32, task text-classification" in done.out
    assert " all " in done.out
    assert "40,034" in done.out


def test_a_short_name_and_the_hub_need_a_network():
    done = hfcompress("inspect", "bert-base")
    assert done.code == 1
    assert "google-bert/bert-base-uncased" in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name a model. For example: hfcompress inspect bert-base"),
        (["a/b/c"], "a/b/c: there is no such folder."),
        (["m", "--length", "0"], "--length: input should be greater than or equal to 1, got '0'."),
        (["m", "n"], "n: is not expected here."),
    ],
)
def test_faults(words, said):
    done = hfcompress("inspect", *words)
    assert (done.code, done.faults) == (2, [said])


def test_another_task_is_refused(tmp_path):
    config = tiny_config("bert")
    config.architectures = ["BertForMultipleChoice"]
    config.save_pretrained(tmp_path)
    done = hfcompress("inspect", tmp_path)
    assert done.code == 2
    assert "BertForMultipleChoice" in done.err
    assert hfcompress("inspect", tmp_path, "--task", "text-classification").code == 0
    assert AutoConfig.from_pretrained(tmp_path).architectures == ["BertForMultipleChoice"]
