"""A run that was killed and resumed ends with exactly the weights of one that was not."""

import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.runs import At, learned, logged, same
from tests.training.worker import killed_run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return what an uninterrupted run ends with, by its options; each is run once."""

    @cache
    def run(**options):
        trainer = killed_run(tmp_path_factory.mktemp("whole"), **options)
        trainer.train()
        assert trainer.state.global_step == 16
        return trainer

    return run


def test_a_run_killed_within_an_epoch_resumes_exactly(whole, tmp_path):
    command = [sys.executable, "-m", "tests.training.worker", "killed", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, timeout=120
    )
    assert done.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-5"]
    resumed = killed_run(tmp_path)
    resumed.train(resume_from_checkpoint=True)
    assert same(learned(resumed), learned(whole()))
    assert logged(resumed, "loss") == logged(whole(), "loss")
    assert logged(resumed, "loss_kl") == logged(whole(), "loss_kl")


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("stop", [6, 12])
def test_a_stopped_run_resumes_exactly(grouped, stop, whole, tmp_path):
    """Checkpoints are at steps 5 and 10, an epoch has 8: stopped in the first epoch, and in the second."""
    halt = At(stop, lambda control: setattr(control, "should_training_stop", True))
    killed_run(tmp_path, [halt], length_grouping=grouped).train()
    torch.manual_seed(99)
    resumed = killed_run(tmp_path, length_grouping=grouped)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 16
    assert same(learned(resumed), learned(whole(length_grouping=grouped)))


def test_length_grouping_changes_the_order(whole):
    assert not same(learned(whole(length_grouping=True)), learned(whole(length_grouping=False)))


def test_a_checkpoint_holds_the_projections(whole):
    trainer = whole(length_grouping=False)
    saved = load_file(Path(trainer.args.output_dir) / "checkpoint-16" / "distillation.safetensors")
    assert same(saved, trainer.distiller.modules.state_dict())
    assert {tensor.shape for tensor in saved.values()} == {(48, 32)}
