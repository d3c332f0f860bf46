"""Processes of their own: quiet ones, and two that work together under accelerate."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification

from tests.cli.support import distill_words

ROOT = Path(__file__).parents[2]
WORKER = "tests.cli.brief_worker"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def process(*words, **environment):
    """Run a module in a fresh process, as a user's shell would."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
    environment.pop("TRANSFORMERS_VERBOSITY", None)
    command = [sys.executable, "-m", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_quiet_is_silent_on_stderr_and_json_is_all_there_is_on_stdout(teacher_dir, csv, tmp_path):
    words = distill_words(teacher_dir, csv, tmp_path / "out", "--json", "--quiet", "--finetune-teacher")
    done = process(WORKER, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["output_dir"] == str(tmp_path / "out")


@pytest.fixture(scope="module")
def two(tmp_path_factory, teacher_dir, csv):
    """What two processes left of one distillation after a fine-tuning, and its folder."""
    folder = tmp_path_factory.mktemp("two") / "out"
    words = distill_words(teacher_dir, csv, folder, "--finetune-teacher", "--losses", "kl,hidden_mse")
    # `--multi_gpu`, though there is none: `--cpu` starts a single process unless MPI is set up.
    done = process(
        *("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
        *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", free_port()),
        *("-m", WORKER, *words),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done, folder


def test_two_processes_give_one_table(two):
    done, _ = two
    assert len(re.findall(r"^ accuracy % \(95 %\)", done.stdout, re.MULTILINE)) == 1
    assert done.stdout.count("from transformers import pipeline") == 1


def test_two_processes_say_each_thing_once(two):
    done, _ = two
    assert done.stderr.count("step 1 of 2: finetune (teacher)") == 1
    assert done.stderr.count("step 2 of 2: distill (student)") == 1


def test_two_processes_leave_one_complete_folder(two):
    _, folder = two
    assert [path.name for path in folder.parent.iterdir()] == ["out"]
    assert {"config.json", "model.safetensors", "tokenizer.json", "compression.json"} <= set(os.listdir(folder))
    assert AutoModelForSequenceClassification.from_pretrained(folder).config.num_hidden_layers == 2
    record = json.loads((folder / "compression.json").read_text())
    assert [step["method"] for step in record["steps"]] == ["finetune", "distill"]


def test_both_processes_had_a_share_of_the_steps(two):
    # 86 rows in batches of 32 on each of two processes: 2 steps an epoch.
    assert "| 2/2 [" in two[0].stderr.replace("\r", "\n")
