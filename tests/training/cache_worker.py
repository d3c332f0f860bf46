"""Builds of a cache in processes of their own: two together, or one that is killed; `python -m` starts it."""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch

from hfcompress.training import cache_building
from tests.training.caches import job_of
from tests.training.runs import Record, small_student


def together(folder):
    """Build with another process; each notes how many batches the teacher answered in it."""
    job = job_of()
    asked = Record(job.teacher.model)
    cache_building.cached(job, folder / "cache", small_student().config)
    rank = os.environ["RANK"]
    (folder / f"{rank}.json").write_text(json.dumps(sum(len(call["input_ids"]) > 1 for call in asked.calls)))


def killed(folder):
    """Kill this process after five batches."""

    def stop(done, _total):
        if done == 5:
            os.kill(os.getpid(), signal.SIGKILL)

    cache_building._SECONDS = 0.0
    cache_building.build(replace(job_of(), watch=cache_building.Watch(report=stop)), folder)


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"together": together, "killed": killed}[sys.argv[1]](Path(sys.argv[2]))
