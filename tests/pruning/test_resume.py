"""A pruned training that was killed and resumed ends with exactly the weights of one that was not."""

import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hfcompress import registry
from tests.training.runs import At, learned, logged, same
from tests.training.worker import killed_run

ROOT = Path(__file__).parents[2]
RUNS = {
    "magnitude": {"sparsity": 0.8, "every": 2},
    "magnitude, all at once": {"sparsity": 0.5, "schedule": "one_shot", "warmup": 3},
    "magnitude, global": {"sparsity": 0.7, "scope": "global", "every": 3, "initial_sparsity": 0.2},
    "magnitude, pattern": {"pattern": "2:4", "schedule": "linear"},
    "movement": {"sparsity": 0.8},
}
"""Options by method; each run has 16 steps, dropout, a teacher and projections; checkpoints are at steps 5, 10, 16."""
KNOWN = [name for name in RUNS if name.split(",")[0] in registry.methods("pruning")]


def run(folder, name, callbacks=None):
    pruning = {"method": name.split(",")[0], **RUNS[name]}
    return killed_run(folder, callbacks, given={"pruning": pruning})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return what an uninterrupted run ends with; each is run once."""

    @cache
    def finished(name):
        trainer = run(tmp_path_factory.mktemp("whole"), name)
        trainer.train()
        assert trainer.state.global_step == 16
        return trainer

    return finished


@pytest.mark.parametrize("stop", [7, 12])
@pytest.mark.parametrize("name", KNOWN)
def test_a_stopped_run_resumes_exactly(name, stop, whole, tmp_path):
    run(tmp_path, name, [At(stop, lambda control: setattr(control, "should_training_stop", True))]).train()
    torch.manual_seed(99)
    resumed = run(tmp_path, name)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 16
    assert same(learned(resumed), learned(whole(name)))
    for key in ("loss", "sparsity", "grad_norm"):
        assert logged(resumed, key) == logged(whole(name), key)


@pytest.mark.parametrize("name", [name for name in KNOWN if "," not in name])
def test_a_killed_run_resumes_exactly(name, whole, tmp_path):
    code = "import sys; from pathlib import Path; from tests.pruning.test_resume import kill; kill(*sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), name],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-5"]
    resumed = run(tmp_path, name)
    resumed.train(resume_from_checkpoint=True)
    assert same(learned(resumed), learned(whole(name)))


def kill(folder, name):
    """Run in another process: kill it two steps after its checkpoint."""
    torch.set_num_threads(1)
    run(Path(folder), name, [At(7, lambda _: os.kill(os.getpid(), signal.SIGKILL))]).train()


@pytest.mark.parametrize("name", [name for name in KNOWN if name.startswith("magnitude")])
def test_checkpoints_hold_dense_weights_and_what_decides_the_masks(name, whole):
    trainer = whole(name)
    folder = Path(trainer.args.output_dir)
    state = load_file(folder / "checkpoint-10" / "pruning.safetensors")
    assert state
    # The last checkpoint's weights are those of the end, but for what was masked.
    saved, ended = load_file(folder / "checkpoint-16" / "model.safetensors"), trainer.model.state_dict()
    changed = [name for name, tensor in saved.items() if not torch.equal(tensor, ended[name])]
    assert changed
    assert all(torch.equal(saved[name][ended[name] != 0], ended[name][ended[name] != 0]) for name in changed)
    assert all(saved[name].count_nonzero() > ended[name].count_nonzero() for name in changed)
