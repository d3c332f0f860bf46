"""Flags: hyphens and underscores, every fault at once, the nearest name, and what to type instead."""

import importlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfcompress.cli.options import read_arguments
from tests.cli.support import hfcompress

REQUIRED = ("--teacher", "t", "--student", "cut:layers=1", "--dataset", "d.csv", "--output-dir", "o")


def parsed(*words, verb="distill"):
    """Read a command line; returns one flat mapping of every option, and the training arguments."""
    request, output = read_arguments(verb, importlib.import_module(f"hfcompress.cli.{verb}").VERB, words)
    return {name: value for config in request.configs for name, value in vars(config).items()}, request.training, output


def refused(*words):
    """The faults of `hfcompress distill` with all that is required and these words."""
    done = hfcompress("distill", *REQUIRED, *words)
    assert (done.code, done.out) == (2, "")
    assert "Traceback" not in done.err
    return done.faults


@pytest.mark.parametrize(
    "words",
    [
        ["--text-column", "body"],
        ["--text_column", "body"],
        ["--text-column=body"],
        ["--text_column=body"],
    ],
)
def test_hyphen_underscore_and_equals_mean_the_same(words):
    assert parsed(*REQUIRED, *words)[0]["text_column"] == "body"


@pytest.mark.parametrize(
    "words",
    [["--learning-rate", "1e-4"], ["--learning_rate=1e-4"], ["--learning-rate=1e-4"], ["--learning_rate", "1e-4"]],
)
def test_a_training_argument_is_a_flag_in_every_spelling(words):
    assert parsed(*REQUIRED, *words)[1] == {"learning_rate": 1e-4}


def test_a_training_switch_needs_no_value_wherever_it_stands():
    for words in (["--use-cpu", *REQUIRED], [*REQUIRED, "--use-cpu"], [*REQUIRED, "--use-cpu", "--max-steps", "-1"]):
        assert parsed(*words)[1]["use_cpu"] is True


def test_underscores_in_values_stay():
    values, _, _ = parsed(*REQUIRED, "--text_column=my_text", "--where", "in_put=a_b", "--student", "my_model")
    assert (values["text_column"], values["where"], values["student"]) == ("my_text", {"in_put": "a_b"}, "my_model")


def test_lists_are_repeated_or_separated_by_commas():
    values, _, _ = parsed("--model", "a,b", "--model", "c", "--dataset", "d", verb="evaluate")
    assert values["model"] == ["a", "b", "c"]


def test_json_and_quiet_go_to_the_output():
    assert parsed(*REQUIRED)[2] == parsed(*REQUIRED, "--json", "--quiet")[2].__class__(False, False)
    assert parsed(*REQUIRED, "--json", "--quiet")[2].progress is False


def test_overrides_may_stand_before_and_after_flags():
    for words in (
        ["r", "a=1", "b.c=x,y", "--dry-run"],
        ["--dry-run", "r", "a=1", "b.c=x,y"],
        ["r", "--dry-run", "a=1", "b.c=x,y"],
        ["r", "a=1", "--dry-run", "b.c=x,y"],
    ):
        values, _, _ = parsed(*words, verb="run")
        assert (values["recipe"], values["overrides"], values["dry_run"]) == ("r", ["a=1", "b.c=x,y"], True)


def test_zero_is_a_value(teacher_dir, csv, tmp_path):
    words = ("--teacher", teacher_dir, "--student", "cut:layers=1", "--dataset", csv, "--output-dir", tmp_path / "o")
    done = hfcompress("distill", *words, "--alpha", "0", "--losses", "kl", "--dry-run", "--json")
    assert done.code == 0, done.err
    seen = {}

    def prepare(recipe):
        seen.update(recipe.steps[0]["distill"])
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hfcompress.pipeline.job.prepare", prepare)
        assert hfcompress("distill", *words, "--alpha", "0").code == 130
    assert seen["alpha"] == 0.0


def test_all_faults_of_all_groups_and_training_arguments_come_at_once():
    faults = refused(
        *("--temprature", "3", "--learnin-rate", "1", "--text-colum", "x", "--max-train-samples", "0"),
        *("--alpha", "2", "--temperature", "0", "--seed", "-1", "--num_train_epochs", "many", "stray"),
    )
    assert faults == [
        "9 things to change:",
        "--seed: input should be greater than or equal to 0, got '-1'.",
        "--temperature: input should be greater than 0, got '0'.",
        "--alpha: input should be less than or equal to 1, got '2'.",
        "--max-train-samples: input should be greater than 0, got '0'.",
        "stray: is not expected here.",
        "--temprature: there is no such flag. Did you mean '--temperature'?",
        "--learnin-rate: there is no such flag. Did you mean '--learning-rate'?",
        "--text-colum: there is no such flag. Did you mean '--text-column'?",
        "--num-train-epochs: input should be a valid number, unable to parse string as a number, got 'many'.",
    ]


def test_everything_that_is_missing_is_named():
    done = hfcompress("distill")
    assert done.code == 2
    assert [line.partition(":")[0] for line in done.faults[1:]] == [
        "--teacher",
        "--student",
        "--dataset",
        "--output-dir",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--student", ""], "--student: is missing: what is to be trained? For example: cut:layers=3."),
        (["--alpha", "-0.1"], "--alpha: input should be greater than or equal to 0, got '-0.1'."),
        (["--temperature", "warm"], "--temperature: input should be a valid number"),
        (["--temperature", "nan"], "--temperature: input should be"),
        (["--losses", "kll"], "--losses: there is no loss 'kll'. Did you mean 'kl'? Allowed: attention_kl, "),
        (["--losses", "{kl"], "--losses: is not valid JSON"),
        (["--losses", '{"kl": {"temprature": 3}}'], "--losses.kl.temprature: there is no such key. Did you mean 'temp"),
        (["--losses", '{"kl": 0}'], "--losses: every weight is 0"),
        (["--losses", '{"kl": 0.5}', "--alpha", "0.5"], "--alpha: cannot stand beside explicit weights (kl). Give eit"),
        (["--layer-map", "unform"], "--layer-map: there is no layer map 'unform'. Did you mean 'uniform'?"),
        (["--layer-map", "1:x"], "--layer-map: takes a name or pairs such as 1:2,3:6, got '1:x'."),
        (["--where", "a"], "--where: takes NAME=VALUE, got 'a'."),
        (["--output-dir", "."], "--output-dir: takes a folder with a name, got '.'."),
        (["--output-dir", "a/.."], "--output-dir: takes a folder with a name, got 'a/..'."),
        (["--task", "text-clasification"], "task: there is no task 'text-clasification'. Did you mean 'text-classif"),
        (["--teacher"], "argument --teacher: expected one argument. See `hfcompress distill --help`."),
        (["--learning-rate"], "--learning-rate: input should be a valid number"),
        (["--learning-rate", "nan"], "--learning-rate: input should be a finite number, got 'nan'."),
        (["--num-train-epochs", "-1"], "--num-train-epochs: input should be greater than or equal to 0, got '-1'."),
        (["--per-device-train-batch-size", "0"], "--per-device-train-batch-size: input should be greater than 0"),
        (["--gradient-accumulation-steps", "0"], "--gradient-accumulation-steps: input should be greater than 0"),
        (["--push-to-hub"], "argument --push-to-hub: expected one argument."),
        (["--resume-from-checkpoint", "x"], "--resume-from-checkpoint: there is no such flag."),
        (["-t", "x"], "-t: is not expected here."),
    ],
)
def test_a_fault_says_what_is_wrong_and_what_to_type(words, said):
    assert any(line.startswith(said) for line in refused(*words)), refused(*words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--optim", "adamm"], "adamm is not a valid OptimizerNames, please select one of"),
        (["--lr-scheduler-type", "linea"], "linea is not a valid SchedulerType, please select one of"),
        (["--logging-steps", "0"], "requires non-zero --logging_steps"),
    ],
)
def test_what_transformers_refuses_is_refused_before_anything_is_looked_up(words, said):
    (line,) = refused(*words)  # neither teacher nor data set exist
    assert line.startswith("transformers refuses these training arguments: ")
    assert said in line


@pytest.mark.parametrize("verb", ["evaluate", "inspect", "list", "env", "run", "quickstart"])
def test_a_verb_that_does_not_train_takes_no_training_arguments(verb):
    done = hfcompress(verb, "--learning-rate", "3")
    assert done.code == 2
    assert "--learning-rate: there is no such flag. Allowed: " in done.err


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12), max_size=6))
def test_whatever_is_typed_there_is_no_traceback(words):
    done = hfcompress("list", *words)
    assert done.code in (0, 2)
    assert "Traceback" not in done.err
    assert "unexpected" not in done.err
