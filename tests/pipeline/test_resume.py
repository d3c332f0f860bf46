"""A stopped run goes on: after the last finished step, from the last checkpoint, to the very same weights."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from hfcompress.pipeline.job import prepare
from hfcompress.pipeline.recipe import read_recipe
from hfcompress.training.callbacks import InterruptCallback
from tests.brisk import measure_less
from tests.cli.support import hfcompress

pytestmark = pytest.mark.usefixtures("brisk")

ROOT = Path(__file__).parents[2]
QUICK = {"num_train_epochs": 1, "per_device_train_batch_size": 8, "learning_rate": 1e-3, "save_steps": 2}


@pytest.fixture(scope="module")
def place(tmp_path_factory, teacher_dir, csv):
    """A folder with a recipe of two steps, 4 and 8 optimizer steps long, dropout and projections in it."""
    folder = tmp_path_factory.mktemp("resume")
    student = {"student": "cut:layers=2", "losses": "kl,hidden_mse"}
    recipe = {
        "model": str(teacher_dir),
        "data": {"dataset": str(csv), "max_train_samples": 32},
        "steps": [{"finetune": QUICK, "as": "teacher"}, {"distill": student | QUICK | {"num_train_epochs": 2}}],
    }
    (folder / "two.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def words(place, out, *overrides):
    return ["run", str(place / "two.yaml"), *overrides, "--output-dir", str(place / out)]


def weights(place, out):
    return load_file(place / out / "model.safetensors")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def uninterrupted(place):
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        measure_less(patch)
        assert hfcompress(*words(place, "uninterrupted")).code == 0
    return weights(place, "uninterrupted")


@pytest.fixture
def begun(monkeypatch):
    """The optimizer step from which each training run of this process begins."""
    steps, begin = [], InterruptCallback.on_train_begin

    def note(self, args, state, *more, **kwargs):
        steps.append(state.global_step)
        begin(self, args, state, *more, **kwargs)

    monkeypatch.setattr(InterruptCallback, "on_train_begin", note)
    return steps


def stopped(number, run, step, command):
    """Run a command in a process that gets a signal at a step of a training run."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = [sys.executable, "-m", "tests.pipeline.worker", str(int(number)), str(run), str(step), *command]
    return subprocess.run(process, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def test_ctrl_c_keeps_a_checkpoint_and_the_same_command_goes_on(place, uninterrupted, begun):
    command = words(place, "stopped")
    done = stopped(signal.SIGINT, 1, 3, command)
    assert (done.returncode, done.stdout) == (130, "")
    last = done.stderr.splitlines()[-1]
    assert last == (
        "error: Stopped at step 3 of 4; a checkpoint is kept. Run the same command again to go on from there."
    )
    assert "Traceback" not in done.stderr
    assert not (place / "stopped").exists()
    assert [path.name for path in (place / ".stopped.partial").glob("*.scratch/checkpoint-*")] == ["checkpoint-3"]
    assert hfcompress(*command).code == 0
    assert begun == [3, 0]
    assert same(weights(place, "stopped"), uninterrupted)
    assert not (place / ".stopped.partial").exists()


def test_a_killed_run_repeats_no_finished_step_and_ends_the_same(place, uninterrupted, begun):
    command = words(place, "killed")
    done = stopped(signal.SIGKILL, 2, 5, command)
    assert done.returncode == -signal.SIGKILL
    assert not (place / "killed").exists()
    again = hfcompress(*command)
    assert again.code == 0
    assert "step 1 of 2: finetune (teacher) is done already" in again.err
    assert "step 2 of 2: distill\n" in again.err
    assert begun == [4]
    assert same(weights(place, "killed"), uninterrupted)


def fail(*_, **__):
    raise RuntimeError("on purpose")


def fail_at(step, state):
    if state.global_step == step:
        fail()


def test_a_second_step_without_a_checkpoint_starts_as_if_the_first_had_just_run(
    place, uninterrupted, begun, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr("hfcompress.distillation.distill.train", fail)
        assert hfcompress(*words(place, "early")).code == 1
    torch.manual_seed(12345)
    assert hfcompress(*words(place, "early")).code == 0
    assert begun == [0, 0]
    assert same(weights(place, "early"), uninterrupted)


def test_a_run_that_fails_after_training_does_not_train_again(place, uninterrupted, begun, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("hfcompress.pipeline.runner._record_step", fail)
        assert hfcompress(*words(place, "late")).code == 1
    assert hfcompress(*words(place, "late")).code == 0
    assert begun == [0, 4, 0]  # the first step goes on from its last checkpoint, where nothing is left to do
    assert same(weights(place, "late"), uninterrupted)


def test_other_options_of_the_second_step_reuse_the_first(place, uninterrupted, begun, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("hfcompress.pipeline.runner.finish", fail)
        assert hfcompress(*words(place, "changed")).code == 1
    done = hfcompress(*words(place, "changed", "steps.1.distill.alpha=0.2"))
    assert done.code == 0
    assert "step 1 of 2: finetune (teacher) is done already" in done.err
    assert begun == [0, 0, 0]
    assert not same(weights(place, "changed"), uninterrupted)


@pytest.mark.parametrize(
    ("override", "same_first", "same_second"),
    [
        ("description=words", True, True),
        ("steps.1.distill.alpha=0.2", True, False),
        ("steps.1.as=other", True, False),
        ("steps.0.finetune.learning_rate=1e-4", False, False),
        ("data.max_train_samples=24", False, False),
        ("data.max_length=8", False, False),
        ("data.validation=0.2", False, False),
        ("seed=1", False, False),
    ],
)
def test_what_a_step_depends_on(override, same_first, same_second, place):
    one, other = (prepare(read_recipe(place / "two.yaml", more)) for more in ([], [override]))
    assert (one.fingerprint(1) == other.fingerprint(1)) is same_first
    assert (one.fingerprint(2) == other.fingerprint(2)) is same_second


def test_a_step_folder_without_its_record_is_made_anew(place, uninterrupted, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("hfcompress.distillation.distill.train", fail)
        assert hfcompress(*words(place, "torn")).code == 1
    (folder,) = (path for path in (place / ".torn.partial").iterdir() if path.name.startswith("1-teacher-"))
    (folder / "step.json").unlink()
    (folder / "model.safetensors").unlink()
    done = hfcompress(*words(place, "torn"))
    assert done.code == 0, done.err
    assert "done already" not in done.err
    assert same(weights(place, "torn"), uninterrupted)


def test_an_incomplete_checkpoint_is_passed_over(place, uninterrupted, begun, monkeypatch):
    command = words(place, "half")
    with monkeypatch.context() as patch:
        patch.setattr(InterruptCallback, "on_step_end", lambda self, args, state, *_, **__: fail_at(3, state))
        assert hfcompress(*command).code == 1
    (scratch,) = (place / ".half.partial").glob("*.scratch")
    half = scratch / "checkpoint-3"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    assert hfcompress(*command).code == 0
    assert begun == [0, 2, 0]
    assert same(weights(place, "half"), uninterrupted)
