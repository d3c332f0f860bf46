"""Recipes: everything wrong is said at once, with its place, the nearest name and what is allowed."""

import hashlib

import pytest

from hfcompress import registry
from hfcompress.pipeline.recipe import shipped_recipes
from tests.cli.support import hfcompress, tree


def faults(path, *overrides):
    """The faults of running a recipe; nothing is written."""
    before = tree(path.parent)
    done = hfcompress("run", path, *overrides)
    assert (done.code, done.out) == (2, ""), done
    assert "Traceback" not in done.err
    assert tree(path.parent) == before
    return done.faults


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"a: [1", "is not valid YAML: while parsing a flow sequence"),
        (b"seed: 1\nseed: 2", "is not valid YAML: the key 'seed' is there twice"),
        (b"a: b: c", "is not valid YAML: mapping values are not allowed here"),
        (b"\xff\xfe\x00", "is not valid YAML: 'utf-8' codec can't decode byte 0xff"),
        (b"model: !!python/object/apply:os.system ['touch pwned']", "is not valid YAML: could not determine a constr"),
        (b"", "is not a recipe: it must hold keys such as model, data and steps."),
        (b"- model\n- data", "is not a recipe"),
        (b"just words", "is not a recipe"),
    ],
)
def test_what_is_not_a_recipe(text, said, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_bytes(text)
    (line,) = faults(path)
    assert line.startswith(f"{path}: {said}")


def test_all_faults_come_at_once_with_their_places(recipe):
    path = recipe(
        modle="x",
        seed=-1,
        data={"dataset": "d.csv", "txt_column": "t", "max_length": 1},
        steps=[
            {"finetune": {"learnin_rate": 1}},
            {"distill": {"student": "cut:layers=1", "temprature": 2, "alpha": 3, "num_train_epochs": "many"}},
            {"distil": {}},
            {"finetune": {}, "distill": {}},
            {"finetune": 3},
            {"distill": {"losses": {"kll": 1}, "layer_map": "unform"}},
            {"distill": None},
            {"finetune": {"training": 3}},
            "finetune",
        ],
    )
    assert faults(path)[1:] == [
        "data.max_length: input should be greater than or equal to 4, got 1.",
        "data.txt_column: there is no such key. Did you mean 'text_column'?",
        "steps.8: input should be a valid dictionary, got 'finetune'.",
        "seed: input should be greater than or equal to 0, got -1.",
        "modle: there is no such key. Did you mean 'model'?",
        "steps.0.finetune.learnin_rate: there is no such key. Did you mean 'learning_rate'?",
        "steps.1.distill.alpha: input should be less than or equal to 1, got 3.",
        "steps.1.distill.temprature: there is no such key. Did you mean 'temperature'?",
        "steps.1.distill.num_train_epochs: input should be a valid number, unable to parse string as a number, "
        "got 'many'.",
        "steps.2: there is no method 'distil'. Did you mean 'distill'? "
        f"Allowed: {', '.join(sorted(registry.steps()))}.",
        "steps.3: takes one method with its options, got {'finetune': {}, 'distill': {}}. Write `- METHOD: {options}`.",
        "steps.4.finetune: takes options by name, got 3.",
        "steps.5.distill.losses: there is no loss 'kll'. Did you mean 'kl'? "
        f"Allowed: {', '.join(registry.methods('loss'))}.",
        "steps.5.distill.layer_map: there is no layer map 'unform'. Did you mean 'uniform'? Allowed: last, skip, "
        "uniform.",
        "steps.6.distill.student: is missing: what is to be trained? For example: cut:layers=3.",
        "steps.7.finetune.training: takes options by name, got 3.",
        "steps.8: takes one method with its options, got 'finetune'. Write `- METHOD: {options}`.",
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": []}, "steps: is empty: there is nothing to do. Methods: finetune, distill, filters, fisher, "),
        ({"steps": {"distill": {}}}, "steps: input should be a valid list"),
        ({"steps": None}, "steps: input should be a valid list"),
        ({"model": None}, "model: input should be a valid string, got None."),
        ({"data": "d.csv"}, "data: input should be a dictionary"),
        ({"task": "summarization"}, "task: there is no task 'summarization'."),
        ({"steps": [{"finetune": {"optim": "adamm"}}]}, "transformers refuses these training arguments: adamm is not"),
        ({"steps": [{"finetune": {}, "as": "../../x"}]}, "steps.0.as: takes letters, digits, _, . and -, got '../../x"),
        ({"steps": [{"finetune": {}, "as": ""}]}, "steps.0.as: takes letters"),
        (
            {"steps": [{"finetune": {}, "as": "original"}]},
            "steps.0.as: 'original' is what the starting model is called",
        ),
        (
            {"checksums": {"no-such-file": "00"}},
            "no-such-file: the recipe pins its SHA-256, but there is no such file.",
        ),
    ],
)
def test_one_fault(changes, said, recipe):
    assert faults(recipe(**changes))[0].startswith(said)


def test_missing_keys(tmp_path):
    path = tmp_path / "short.yaml"
    path.write_text("description: nothing else")
    assert faults(path)[1:] == ["model: is missing.", "data: is missing.", "steps: is missing."]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seed", "seed: is not of the form key=value."),
        ("=3", "=3: is not of the form key=value."),
        ("a..b=3", "a..b=3: is not of the form key=value."),
        ("seed=[1", "seed: is not given valid YAML: [1"),
        ("sed=3", "sed: there is no such key. Did you mean 'seed'?"),
        ("dta.max_length=9", "dta: has nothing inside to set. Did you mean 'data'?"),
        ("model.x=1", "model: has nothing inside to set."),
        ("data.max_lenght=9", "data.max_lenght: there is no such key. Did you mean 'max_length'?"),
        ("steps.2.distill.alpha=1", "steps.2: takes a position from 0 to 1, got '2'."),
        ("steps.first.distill.alpha=1", "steps.first: takes a position from 0 to 1, got 'first'."),
        ("steps.1.distil.alpha=1", "steps.1.distil: has nothing inside to set. Did you mean 'distill'?"),
        ("steps.1.distill.alpha=2", "steps.1.distill.alpha: input should be less than or equal to 1, got 2."),
        ("steps.1.distill.losses.kl.temprature=2", "steps.1.distill.losses.kl.temprature: there is no such key. Did"),
    ],
)
def test_overrides_that_lead_nowhere(override, said, recipe):
    assert faults(recipe(), override)[0].startswith(said)


def test_all_wrong_overrides_are_named(recipe):
    assert len(faults(recipe(), "dta.x=1", "seed=[", "steps.7.x=1")) == 1 + 3


def test_an_override_into_an_empty_step(recipe):
    assert faults(recipe(steps=[None]), "steps.0.finetune.x=1")[0] == "steps.0: has nothing inside to set."


def test_a_file_that_is_not_the_pinned_one(recipe, csv, teacher_dir):
    weights = teacher_dir / "model.safetensors"
    right = hashlib.sha256(csv.read_bytes()).hexdigest()
    lines = faults(recipe(checksums={str(csv): right, str(weights): "ab" * 32}))
    assert len(lines) == 1
    assert lines[0].startswith(f"{weights}: its SHA-256 is {hashlib.sha256(weights.read_bytes()).hexdigest()}, the re")


def test_teacher_of_a_step_that_does_not_exist_is_found_before_the_first_step(recipe):
    path = recipe()
    for name in ("./nothing", "no/such/model"):
        assert faults(path, f"steps.1.distill.teacher={name}") == [f"{name}: there is no such folder."]


@pytest.mark.parametrize("name", ["quickstrt", "quickstart.yml"])
def test_nearest_recipe_is_offered(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = hfcompress("run", name)
    assert done.code == 2
    assert done.faults == [
        f"there is no recipe '{name}'. Did you mean 'quickstart'? Allowed: {', '.join(shipped_recipes())}."
    ]


def test_no_recipe_named():
    done = hfcompress("run")
    assert done.code == 2
    assert "name a recipe. `hfcompress list recipe` shows" in done.err


def test_a_later_steps_schedule_is_tried_before_the_first_step(recipe):
    pruning = {"magnitude": {"train": True, "sparsity": 0.6, "max_steps": 4, "warmup": 500}}
    (line,) = faults(recipe(steps=[{"finetune": {"max_steps": 1}}, pruning]), "--dry-run")
    assert line.startswith("steps.1.magnitude.warmup: warmup (500 steps) and cooldown (0.2: 1 step) leave no step")


def test_what_a_step_cannot_do_is_said_with_its_place(recipe):
    (line,) = faults(recipe(steps=[{"finetune": {"max_steps": 1}}, {"layers": {"count": 40}}]), "--dry-run")
    assert line.startswith("steps.1.layers.count: ")
