"""`hfcompress cluster` and `pack`: a stock checkpoint with few values, and one small file."""

import json

import pytest
from transformers import AutoModelForSequenceClassification

from hfcompress.cli import cluster, pack
from hfcompress.cli.options import read_arguments
from tests.cli.support import hfcompress, tree


@pytest.fixture
def share(teacher_dir, csv, tmp_path):
    """Run `hfcompress cluster` on the tiny classifier, into `out`."""
    start = ("--model", teacher_dir, "--dataset", csv, "--output-dir", tmp_path / "out")
    return lambda *words: hfcompress("cluster", *start, *words)


def test_help_shows_the_flags_of_k_means():
    for words in ((), ("--method", "kmeans")):
        out = hfcompress("cluster", *words, "--help").out
        assert all(
            flag in out for flag in ("--clusters", "--bit-price", "--outliers", "--pack", "--learning-rate 5e-5")
        )


def test_it_makes_a_stock_model_and_a_small_file(share, tmp_path, brisk):
    done = share("--clusters", "8", "--pack", "model.hfz", "--json")
    assert done.code == 0, done.err
    packed = done.json["packed"]
    file = tmp_path / "out" / "model.hfz"
    assert packed["bytes"] == file.stat().st_size < packed["unpacked_bytes"]
    record = json.loads((tmp_path / "out" / "compression.json").read_text(encoding="utf-8"))
    assert record["recipe"]["pack"] == "model.hfz"
    again = hfcompress("unpack", file, "--output-dir", tmp_path / "again")
    assert again.code == 0, again.err
    for name, data in tree(tmp_path / "again").items():
        assert (tmp_path / "out" / name).read_bytes() == data
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "again")
    assert len(model.bert.encoder.layer[0].output.dense.weight.unique()) <= 8


def test_it_trains_and_says_where_the_file_is(share, tmp_path, brisk):
    words = ("--train", "--num-train-epochs", "1", "--save-strategy", "no", "--losses", "kl", "--pack", "small.hfz")
    done = share("--clusters", "8", *words)
    assert done.code == 0, done.err
    assert "small.hfz." in done.out.split("Beside it: ")[1]
    assert "packed, the weights take about" in done.err


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("--clusters", "1"), "--clusters: input should be greater than or equal to 2, got '1'"),
        (("--clusters", "300"), "--clusters: input should be less than or equal to 256"),
        (("--method", "kmeens"), "--method: there is no method 'kmeens'. Did you mean 'kmeans'?"),
        (("--pack", "model.zip"), "pack: takes the name of a file in the output folder, such as model.hfz"),
        (("--pack", "../model.hfz"), "pack: takes the name of a file in the output folder"),
        (("--losses", "kl"), "train: only training uses losses, and train is not given"),
    ],
)
def test_bad_flags_are_refused(words, fault, share, tmp_path):
    done = share(*words)
    assert (done.code, done.out) == (2, "")
    assert fault in done.err
    assert tree(tmp_path) == {}


# Packing alone.


def test_any_checkpoint_is_packed(teacher_dir, tmp_path):
    file = tmp_path / "model.hfz"
    done = hfcompress("pack", teacher_dir, file)
    assert done.code == 0, done.err
    assert f"Restore it: hfcompress unpack {file} --output-dir DIR" in done.out
    assert hfcompress("unpack", file, "--output-dir", tmp_path / "again").code == 0
    assert tree(tmp_path / "again") == tree(teacher_dir)
    refused = hfcompress("pack", teacher_dir, file)
    assert (refused.code, "--overwrite" in refused.err) == (2, True)
    assert hfcompress("pack", teacher_dir, file, "--overwrite").code == 0


def test_dry_run_and_json(teacher_dir, tmp_path):
    done = hfcompress("pack", teacher_dir, tmp_path / "model.hfz", "--dry-run", "--json")
    assert done.code == 0, done.err
    assert done.json["file"] == str(tmp_path / "model.hfz")
    assert done.json["bytes"] < done.json["unpacked_bytes"]
    assert tree(tmp_path) == {}


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ((), "name a folder and a file"),
        (("nothing",), "name a folder and a file"),
        (("nothing", "model.hfz"), "is not a checkpoint"),
        (("nothing", "model.zip"), "does not end in .hfz"),
    ],
)
def test_faults_of_packing(words, fault):
    done = hfcompress("pack", *words)
    assert (done.code, done.out) == (2, "")
    assert fault in done.err


@pytest.mark.parametrize("example", [*cluster.VERB.examples, *pack.VERB.examples])
def test_examples_parse(example):
    name, *words = example.split()[1:]
    verb = {"cluster": cluster, "pack": pack}[name].VERB
    read_arguments(name, verb, words)
