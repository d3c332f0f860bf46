"""The benchmark of a step: all ways take the same one, take turns, and each pair keeps its place in the results."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset

from tests.snippets import ROOT
from tests.tiny import sentences, tiny_model, tiny_tokenizer

sys.path[:0] = [str(ROOT / "benchmarks")]
import distillation  # noqa: E402
import distillation_steps as steps  # noqa: E402
import readme_tables  # noqa: E402

from hfcompress.data import encode  # noqa: E402

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
OPTIONS = SimpleNamespace(rounds=2, threads=1, batch_size=4, max_train_samples=None, pair="minilm", output=None)


@pytest.fixture
def pair(tokenizer):
    return make_pair(tokenizer)


@pytest.fixture
def foreign_pair(tokenizer):
    return make_pair(tokenizer, tiny_tokenizer(extra=["another"]))


def make_pair(tokenizer, theirs=None):
    texts, labels = zip(*sentences(24), strict=True)
    data = Dataset.from_dict({"text": texts, "labels": [int(label == "positive") for label in labels]})
    rows = encode(data, steps.TASK, tokenizer, 16, theirs)
    student = tiny_model("bert", layers=2, seed=1, **NO_DROPOUT)
    teacher = tiny_model("mpnet" if theirs else "bert", layers=4)
    return steps.Pair("tiny to tiny", teacher, student, rows, tokenizer, theirs)


@pytest.mark.parametrize("name", ["pair", "foreign_pair"])
def test_all_ways_to_distil_have_the_same_gradients(name, request, tmp_path, monkeypatch):
    pair = request.getfixturevalue(name)
    rows, examples, _ = steps.build_rows(pair, tmp_path)
    batch = pair.collate([examples[index] for index in range(8)])
    found, before = [], weights(pair.student)
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda weights, _: found.append(gradients(weights)))
    taken = {}
    for name, row in rows.items():
        if row.student is not None:
            row.step(row.select(batch))
            taken[name] = found.pop()
            assert 4e-5 < np.abs(weights(row.student) - before).max() < 6e-5  # Adam's first step, at transformers' rate
    wanted = taken["override"]
    assert np.allclose(taken["online"], wanted, atol=1e-6)
    assert np.allclose(taken["cached"], wanted, atol=1e-3)  # cached logits are halves
    assert steps.TEXTBREWER not in taken or np.allclose(taken[steps.TEXTBREWER], wanted, atol=1e-6)
    assert np.abs(taken["plain"] - wanted).max() > 0.01


def weights(model):
    return np.concatenate([value.detach().numpy().ravel() for value in model.parameters()])


def gradients(parameters):
    return np.concatenate([value.grad.numpy().ravel() for value in parameters])


def test_each_way_reads_its_own_columns(foreign_pair, tmp_path):
    rows, examples, seconds = steps.build_rows(foreign_pair, tmp_path)
    batch = foreign_pair.collate([examples[0], examples[1]])
    ours = {"input_ids", "token_type_ids", "attention_mask"}
    theirs = {f"teacher_{name}" for name in ours}
    read = {name: set(row.select(batch)) for name, row in rows.items()}
    assert "online_hidden" not in rows  # the tokens differ
    assert read["plain"] == {*ours, "labels"}
    assert read["teacher"] == {"input_ids", "attention_mask"}  # MPNet takes no token types
    assert read["online"] == read["override"] == {*ours, *theirs, "labels"}
    assert read["cached"] == {*ours, "labels", "cache_row"}
    assert (rows["teacher"].select(batch)["input_ids"] == batch["teacher_input_ids"]).all()
    assert seconds > 0


def test_textbrewer_is_left_out_where_it_is_not_installed(pair, monkeypatch, capsys):
    monkeypatch.setattr(steps.importlib.util, "find_spec", lambda name: None)
    record = distillation.run(pair, OPTIONS)
    assert list(record["rows"]) == ["plain", "teacher", "override", "online", "cached", "online_hidden"]
    assert all("textbrewer" not in row["ratio_to"] for row in record["rows"].values())
    assert "pip install --no-deps" in capsys.readouterr().out


def test_rows_take_turns_and_warm_up_is_left_out():
    taken = []
    rows = {
        name: steps.Row(name, lambda batch: batch, lambda batch, name=name: taken.append((batch, name)))
        for name in "abc"
    }
    seconds = distillation.measure(rows, range(4))
    assert "".join(name for _, name in taken) == "abc" + "bca" + "cab" + "abc"
    assert [batch for batch, _ in taken] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert {name: len(values) for name, values in seconds.items()} == {"a": 1, "b": 1, "c": 1}


SECONDS = {
    "plain": np.array([1.0, 2.0, 3.0]),
    "teacher": np.array([1.0, 1.0, 1.0]),
    "textbrewer": np.array([2.0, 3.0, 8.0]),
    "cached": np.array([1.0, 3.0, 6.0]),
}


def test_ratios_are_taken_round_by_round():
    found = distillation.summary("cached", SECONDS)
    assert found["seconds"]["median"] == 3.0
    assert found["ratio_to"]["plain"] == {"median": 1.5, "quartiles": [1.25, 1.75]}
    assert found["ratio_to"]["plain + teacher"] == {"median": 1.0, "quartiles": [0.75, 1.25]}
    assert found["ratio_to"]["textbrewer"] == {"median": 0.75, "quartiles": [0.625, 0.875]}
    assert distillation.summary("plain", SECONDS)["ratio_to"] == {}
    assert set(distillation.summary("textbrewer", SECONDS)["ratio_to"]) == {"plain", "plain + teacher"}


def test_a_run_of_one_pair_leaves_the_other(tmp_path):
    file = tmp_path / "results" / "distillation.json"
    for name, record in [("mpnet", 1), ("minilm", 2), ("mpnet", 3)]:
        distillation.write(file, name, record)
    assert json.loads(file.read_text()) == {"pairs": {"minilm": 2, "mpnet": 3}}
    assert list(json.loads(file.read_text())["pairs"]) == ["minilm", "mpnet"]


def test_readme_table_has_a_line_a_row(tmp_path, monkeypatch):
    record = {
        "pair": "A to B",
        "settings": {"rounds": 3, "threads": 1, "batch_size": 4, "max_train_samples": None},
        "rows": {name: {"what": name, **distillation.summary(name, SECONDS)} for name in SECONDS},
        "caching": {"rows": 7530, "seconds": 61.7},
        "padding_share": {"random": 0.5, "grouped": 0.02},
    }
    distillation.write(tmp_path / "distillation.json", "minilm", record)
    monkeypatch.setattr(readme_tables, "RESULTS", tmp_path)
    lines = readme_tables.distillation().splitlines()
    assert lines[0] == "A to B, batch 4, threads: 1, rounds: 3:"
    assert lines[4] == "| plain | 2000 | | | |"
    assert lines[7] == "| cached | 3000 | 1.50 (1.25–1.75) | 1.00 (0.75–1.25) | 0.75 (0.62–0.88) |"
    assert lines[9] == "Caching the teacher's answers to 7,530 sentences took 62 s, once."
    assert lines[-1].startswith("Padding is 50.0% of the tokens in batches drawn at random, 2.0% in")


def test_padding_share_counts_what_is_added_to_the_longest():
    assert distillation.share(np.array([4, 2, 3, 1]), 2) == 1 - 10 / (2 * 4 + 2 * 3)
