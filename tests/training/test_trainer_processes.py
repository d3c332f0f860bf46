"""Two processes end with the same weights as one that sees the same samples."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.training.runs import distance, learned
from tests.training.worker import LANGUAGE, RESUMED, TOGETHER, train, train_language

ROOT = Path(__file__).parents[2]


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder in which two processes left the weights and logs of their runs."""
    folder = tmp_path_factory.mktemp("two")
    # `--multi_gpu`, though there is none: `--cpu` starts a single process unless MPI is set up.
    settings = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    settings += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", _free_port()]
    launch = [sys.executable, "-m", "accelerate.commands.launch", *settings]
    command = [*launch, "--module", "tests.training.worker", "together", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.mark.parametrize("name", TOGETHER)
def test_two_processes_give_the_weights_and_logs_of_one(name, two, tmp_path):
    options = TOGETHER[name]
    one = train(tmp_path, 16 // options.get("gradient_accumulation_steps", 1), **options)
    start = learned(one)
    one.train()
    assert distance(learned(one), start) > 1e-3
    assert distance(load_file(two / f"{name}.safetensors"), learned(one)) < 2e-6
    for mine, theirs in zip(one.state.log_history, json.loads((two / f"{name}.json").read_text()), strict=True):
        for key in (key for key in mine if key.startswith("loss")):
            assert theirs[key] == pytest.approx(mine[key], abs=1.1e-4)


@pytest.mark.parametrize("name", LANGUAGE)
def test_a_language_model_whose_logits_are_computed_apart(name, two, tmp_path):
    one = train_language(tmp_path, 8, name)
    start = learned(one)
    one.train()
    assert distance(learned(one), start) > 1e-3
    assert distance(load_file(two / f"{name}.safetensors"), learned(one)) < 2e-6


def test_two_processes_resume_within_the_second_epoch(two, tmp_path):
    one = train(tmp_path, 16, **RESUMED)
    one.train()
    assert distance(load_file(two / "resumed.safetensors"), learned(one)) < 2e-6
