"""`hfcompress prune`: every method's options are flags; what comes out loads with plain transformers."""

import dataclasses

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, pipeline

from hfcompress import registry
from hfcompress.cli.methods import with_method
from hfcompress.cli.options import read_arguments
from hfcompress.cli.prune import VERB
from tests.cli.support import SHORT, hfcompress, tree
from tests.tiny import GOOD

METHODS = registry.methods("pruning")
REQUIRED = ("--model", "m", "--dataset", "d.csv", "--output-dir", "o")


def flags_of(config):
    fields = [field for field in dataclasses.fields(config) if not field.metadata.get("recipe_only")]
    return {field.name: "--" + field.name.replace("_", "-") for field in fields}


def refused(*words):
    """The faults of `hfcompress prune` with all that is required and these words."""
    done = hfcompress("prune", *REQUIRED, *words)
    assert (done.code, done.out) == (2, "")
    return done.faults


@pytest.fixture
def prune(teacher_dir, csv, tmp_path):
    """Run `hfcompress prune` on the tiny classifier, into `out`."""
    start = ("--model", teacher_dir, "--dataset", csv, "--output-dir", tmp_path / "out", "--json")
    return lambda *words: hfcompress("prune", *start, *words)


# Help and flags.


def test_help_lists_every_method_with_its_line():
    out = hfcompress("prune", "--help").out
    assert all(f"  {name} " in out and method.help in out for name, method in METHODS.items())
    assert "hfcompress prune --method NAME --help" in out


@pytest.mark.parametrize("name", METHODS)
def test_help_of_a_method_shows_its_flags_and_its_line(name):
    done = hfcompress("prune", "--method", name, "--help")
    unfolded = " ".join(done.out.split())
    assert " ".join(f"{name}: {METHODS[name].help}".split()) in unfolded
    assert f"Options of prune --method {name}:" in done.out
    shown = set(unfolded.replace(",", " ").split())
    assert set(flags_of(METHODS[name].config).values()) <= shown
    assert ("TrainingArguments" in done.out) == (name in ("magnitude", "movement"))


def test_help_with_an_unknown_method_lists_the_methods():
    assert hfcompress("prune", "--method", "fishr", "--help").out == hfcompress("prune", "--help").out


@pytest.mark.parametrize("name", METHODS)
def test_no_option_of_a_method_hides_a_flag_of_the_verb(name):
    verb = with_method(VERB, ["--method", name])
    names = [flag for group in verb.groups for flag in flags_of(group)]
    assert len(names) == len(set(names))


def test_lists_switches_and_training_arguments_are_read():
    words = ("--layers", "0,2", "--modules", "*.a,*.b", "--modules=c", "--batch_size", "4", "--no-sequential")
    wanda = read_arguments("prune", VERB, [*REQUIRED, "--method=wanda", "--sparsity", "0.5", *words])[0].configs[1]
    assert (wanda.layers, wanda.modules, wanda.batch_size) == ([0, 2], ["*.a", "*.b", "c"], 4)
    assert not wanda.sequential
    words = ("--train", "--sparsity", "0.5", "--warmup", "1.5ep", "--losses", "kl,task", "--learning-rate", "1e-4")
    request, _ = read_arguments("prune", VERB, [*REQUIRED, "--method", "magnitude", *words])
    assert request.training == {"learning_rate": 1e-4}
    assert (request.configs[1].train, request.configs[1].warmup) == (True, "1.5ep")
    words = ("--structure", "block", "--block", "4,8", "--sparsity", "0.5", "--no-remove-empty")
    request, _ = read_arguments("prune", VERB, [*REQUIRED, "--method", "movement", *words])
    assert (request.configs[1].block, request.configs[1].remove_empty) == ([4, 8], False)


# What is refused.

ALLOWED = "Allowed: filters, fisher, layers, magnitude, movement, sparsegpt, vocabulary, wanda."
WANDA = "wanda takes --sparsity, --pattern, --layers, --modules, --exclude, --examples, --batch-size, --sequential."


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ((), f"--method: is missing. {ALLOWED}"),
        (("--method", "fishr"), f"--method: there is no method 'fishr'. Did you mean 'fisher'? {ALLOWED}"),
        (
            ("--method", "fisher"),
            "--macs: no budget is given. Give one of macs, parameters, latency, such as macs 0.4.",
        ),
        (("--method", "wanda", "--sparsity", "1"), "--sparsity: input should be less than 1, got '1'."),
        (
            ("--method", "wanda", "--sparsity", "-1"),
            "--sparsity: input should be greater than or equal to 0, got '-1'.",
        ),
        (
            ("--method", "wanda", "--pattern", "2:4", "--sparsty", "0.5"),
            "--sparsty: there is no such flag. Did you mean '--sparsity'?",
        ),
        (
            ("--method", "wanda", "--sparsity", "0.5", "--macs", "0.4"),
            f"--macs: is an option of filters and fisher. {WANDA}",
        ),
        (
            ("--method", "wanda", "--sparsity", "0.5", "--learning-rate", "1e-4"),
            f"--learning-rate: is for training, and wanda does not train. {WANDA}",
        ),
        (
            ("--method", "movement", "--sparsity", "0.5", "--learnin-rate", "1"),
            "--learnin-rate: there is no such flag. Did you mean '--learning-rate'?",
        ),
    ],
)
def test_a_wrong_flag_is_explained(words, fault):
    assert refused(*words) == [fault]


def test_all_faults_come_at_once():
    done = hfcompress("prune", "--method", "fisher", "--macs", "2", "--seed", "-1", "--sparsity", "0.5")
    assert done.faults[0] == "6 things to change:"
    starts = (
        "--model: is missing.",
        "--seed: ",
        "--macs: ",
        "--dataset: is missing.",
        "--output-dir: ",
        "--sparsity: ",
    )
    assert all(line.startswith(start) for line, start in zip(done.faults[1:], starts, strict=True))
    assert "--sparsity: is an option of filters, magnitude, movement, sparsegpt and wanda. fisher takes " in done.err


def test_training_flags_without_train_are_refused_before_anything_runs(prune, tmp_path):
    done = prune("--method", "magnitude", "--sparsity", "0.5", "--learning-rate", "1e-4")
    assert done.code == 2
    assert "--train: only training uses learning_rate" in done.err
    assert tree(tmp_path) == {}


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("--method", "wanda", "--sparsity", "0.5", "--layers", "0,9"), "--layers: there is no layer 9."),
        (("--method", "wanda", "--sparsity", "0.5", "--modules", "x*"), "--modules: 'x*' matches nothing."),
        (("--method", "layers", "--count", "9"), "--count: the model has 4 layers, got 9."),
        (("--method", "filters", "--macs", "0.5"), "bert has no filters that could be removed."),
    ],
)
def test_what_does_not_fit_the_model_is_refused_and_leaves_nothing(words, fault, prune, tmp_path):
    done = prune(*words)
    assert done.code == 2
    assert done.faults[-1].startswith(fault)
    assert tree(tmp_path) == {}


def test_an_architecture_without_a_row_is_refused(tmp_path, csv, tokenizer):
    config = AutoConfig.for_model(
        "fnet", vocab_size=64, hidden_size=16, num_hidden_layers=1, intermediate_size=16, tpu_short_seq_length=16
    )
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    words = ("--model", tmp_path / "model", "--dataset", csv, "--output-dir", tmp_path / "out")
    done = hfcompress("prune", *words, "--method", "fisher", "--macs", "0.5")
    assert done.code == 2
    assert "fnet" in done.faults[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


# Dry runs.


@pytest.mark.parametrize(
    "words", [("fisher", "--macs", "0.4"), ("wanda", "--sparsity", "0.5"), ("magnitude", "--sparsity", "0.5")]
)
def test_dry_run_of_what_looks_at_the_data_says_at_most(words, prune, tmp_path):
    done = prune("--method", *words, "--dry-run")
    assert done.code == 0, done.err
    (plan,) = done.json["steps"]
    assert (plan["parameters"], plan["at_most"], plan["optimizer_steps"]) == (40034, True, 0)
    assert plan["memory_bytes"] == plan["disk_bytes"] == 4 * 40034
    assert tree(tmp_path) == {}


def test_dry_run_table_explains_at_most(teacher_dir, csv, tmp_path):
    words = ("--model", teacher_dir, "--dataset", csv, "--output-dir", tmp_path / "out", "--dry-run", "--method")
    out = hfcompress("prune", *words, "fisher", "--macs", "0.4").out
    assert "at most 40 k" in out
    assert "at most: what a method leaves is known once it has looked at the model and the data" in out
    assert "at most:" not in hfcompress("prune", *words, "layers", "--count", "1").out


def test_dry_run_of_a_known_result_and_of_training(prune):
    (plan,) = prune("--method", "layers", "--count", "1", "--dry-run").json["steps"]
    assert (plan["parameters"], plan["at_most"]) == (40034 - 8544, False)
    words = ("--train", "--sparsity", "0.5", "--num-train-epochs", "2", "--dry-run")
    (plan,) = prune("--method", "magnitude", *words).json["steps"]
    assert plan["optimizer_steps"] == 6  # 86 rows are three batches
    assert plan["memory_bytes"] == 4 * 4 * 40034
    (taught,) = prune("--method", "magnitude", "--losses", "kl", *words).json["steps"]
    assert taught["memory_bytes"] == 5 * 4 * 40034  # the teacher's weights beside


# Real runs.


@pytest.mark.usefixtures("brisk")
def test_fisher_leaves_a_smaller_model_that_plain_transformers_loads(prune, tmp_path):
    done = prune("--method", "fisher", "--macs", "0.5", "--multiple", "8", "--examples", "16")
    assert done.code == 0, done.err
    (step,) = done.json["steps"]
    assert (step["name"], step["method"]) == ("pruned", "fisher")
    assert step["config"] == {"macs": 0.5, "multiple": 8, "examples": 16}
    first, second = done.json["results"]
    assert (first["name"], second["name"]) == ("original", "pruned")
    assert second["parameters"] < first["parameters"] == 40034
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert model.num_parameters() == second["parameters"]
    assert pipeline("text-classification", model=str(tmp_path / "out"))(GOOD[0])
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.usefixtures("brisk")
def test_the_result_says_what_to_import(teacher_dir, csv, tmp_path):
    words = ("--model", teacher_dir, "--dataset", csv, "--output-dir", tmp_path / "out", "--method")
    assert "import hfcompress" in hfcompress("prune", *words, "fisher", "--macs", "0.5", "--multiple", "8").out
    stock = hfcompress("prune", *words, "layers", "--count", "1", "--overwrite").out
    assert "Use it:" in stock
    assert "import hfcompress" not in stock


@pytest.mark.usefixtures("brisk")
def test_wanda_by_the_same_seed_gives_the_same_zeros(prune, tmp_path):
    words = ("--method", "wanda", "--pattern", "2:4", "--layers", "0,2", "--examples", "8", "--seed", "7")
    assert prune(*words).code == 0
    first = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").state_dict()
    assert prune(*words, "--overwrite").code == 0
    second = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    shares = [(first[f"bert.encoder.layer.{i}.output.dense.weight"] == 0).float().mean().item() for i in range(4)]
    assert shares == [0.5, 0.0, 0.5, 0.0]


@pytest.mark.usefixtures("brisk")
def test_magnitude_trains_when_told(prune):
    done = prune("--method", "magnitude", "--train", "--sparsity", "0.5", "--losses", "kl", *SHORT)
    assert done.code == 0, done.err
    assert done.json["steps"][0]["config"] == {
        "sparsity": 0.5, "train": True, "losses": "kl", "num_train_epochs": 1.0, "save_strategy": "no",
    }  # fmt: skip
    assert done.json["results"][-1]["zeros"] > 0.3
