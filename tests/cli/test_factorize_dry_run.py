"""`hfcompress factorize --dry-run`: the size that the real run makes, loss and time; only timings are written."""

import json

import pytest
from huggingface_hub import constants

from hfcompress import registry
from hfcompress.factorization.convolutions import ConvOptions
from hfcompress.measure import timings
from tests.cli.support import hfcompress, tree

PREDICTING = [
    name
    for name, method in registry.methods("factorization").items()
    if method.predict is not None and not issubclass(method.config, ConvOptions)
]
"""Of linear layers; test_factorize.py has convolutions."""


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Timings go to a folder of the test's own, and take no time."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(constants, "HF_HOME", str(folder))
    monkeypatch.setattr(timings, "_EFFORT", timings.Effort(rounds=1, warm_up=1))
    return folder


@pytest.fixture
def words(teacher_dir, csv, tmp_path):
    start = ("--model", teacher_dir, "--dataset", csv, "--output-dir", tmp_path / "out", "--multiple", "4")
    return lambda *more: ("factorize", *start, *more)


def test_these_methods_predict():
    assert {"svd", "fwsvd"} <= {*PREDICTING}


@pytest.mark.parametrize("method", PREDICTING)
def test_a_dry_run_says_what_the_real_run_makes(method, words, tmp_path, cache, brisk):
    dry = hfcompress(*words("--method", method, "--target-params", "0.7", "--dry-run", "--json"))
    assert dry.code == 0, dry.err
    assert tree(tmp_path) == {}
    (plan,) = dry.json["steps"]
    expected = plan["expected"]["low_rank"]
    if method == "embeddings":  # they are looked up: that takes no time worth telling
        assert "milliseconds" not in expected
    else:
        assert [*tree(cache)] == ["hfcompress", "hfcompress/latency.json"]
        assert expected["milliseconds"] > 0
    assert (plan["at_most"], plan["waits"], plan["memory_bytes"]) == (False, False, 4 * 40034)
    real = hfcompress(*words("--method", method, "--target-params", "0.7", "--json"))
    assert real.code == 0, real.err
    after = real.json["results"][1]
    assert plan["parameters"] == after["parameters"] < 40034
    found = json.loads((tmp_path / "out" / "compression.json").read_text())["steps"][0]["findings"]["low_rank"]
    assert found["predicted_loss"] == expected["predicted_loss"]
    assert found["measured_on"] == 64
    assert found["measured_loss"] >= 0


def test_the_table_tells_loss_parameters_and_time(words):
    done = hfcompress(*words("--method", "svd", "--rank", "8", "--dry-run"))
    assert done.code == 0, done.err
    (row,) = [line for line in done.out.splitlines() if "% of the squares of the weights" in line]
    assert "24 of 24" in row
    assert "14 k of 33 k" in row
    assert "ms: these layers on one text of 128 tokens" in done.out
    assert "at most " not in done.out.split("expected loss")[0].replace("disk MB, at most", "")
    assert "looking at the model and the rows" in done.err


def test_steps_behind_others_are_known_later(teacher_dir, csv, tmp_path):
    steps = [
        {"svd": {"rank": 8, "modules": ["*.query"]}, "as": "first"},
        {"svd": {"rank": 8, "modules": ["*.key"]}, "as": "second"},
    ]
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps({"model": str(teacher_dir), "data": {"dataset": str(csv)}, "steps": steps}))
    done = hfcompress("run", path, "--dry-run")
    assert done.code == 0, done.err
    (row,) = [line for line in done.out.splitlines() if "known after the step before" in line]
    assert row.split()[0] == "second"
    first, second = hfcompress("run", path, "--dry-run", "--json").json["steps"]
    assert (first["waits"], second["waits"], second["expected"], second["at_most"]) == (False, True, None, True)
    assert second["parameters"] == first["parameters"] == 40034 - 4 * (32 * 32 - 8 * 64)


def test_a_rank_above_the_break_even_is_told_and_leaves_the_model_as_it_is(words):
    done = hfcompress(*words("--method", "svd", "--rank", "18", "--dry-run"))
    assert done.code == 0, done.err
    why = "since the rank that was asked for would not make them smaller; the largest that does is 15 at 32 x 32: "
    assert f"16 of 24 layers stay dense, {why}" in done.err
    assert "8 of 24" in done.out


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_a_budget_that_cannot_be_met_is_refused_with_the_best_that_can(dry, words, tmp_path):
    done = hfcompress(*words("--method", "svd", "--target-macs", "0.05", *dry))
    assert (done.code, done.out) == (2, "")
    assert (
        "error: --target-macs: 0.05 of the layers' macs cannot be met. The smallest possible model takes 0." in done.err
    )
    assert "give that or more, or a smaller multiple." in done.err
    assert tree(tmp_path) == {}


def test_too_few_tokens_for_the_rank_are_told(words, caplog, brisk):
    done = hfcompress(*words("--method", "activation", "--rank", "12", "--examples", "2", "--max-length", "5"))
    assert done.code == 0, done.err
    assert "fewer tokens than the rank were seen" in caplog.text
