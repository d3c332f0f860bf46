"""The numbers that go beside a model: quality, size and latency of several, compared with the first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hfcompress.data import TaskData
from hfcompress.measure.bench import HEADLINE, UNTIMED, bench
from hfcompress.measure.quality import More
from hfcompress.tasks import Task


def compare(
    models: Mapping[str, Path | str],
    task: Task,
    data: TaskData,
    seed: int = 0,
    latency: bool = True,
    known_answers: Mapping[str, np.ndarray] | None = None,
    progress: bool = False,
    more: More | None = None,
) -> list[dict[str, Any]]:
    """Measure models side by side: `bench` less what takes long.

    Args:
        models: Folder, Hub id or ONNX file by name; the first is what the others are compared with.
        task: Gives metrics and class.
        data: Its validation rows are what quality is measured on.
        seed: Of the bootstrap.
        latency: Whether to time them too, interleaved in one run: batch 1, 128 tokens, one thread.
        known_answers: Validation answers of models that were evaluated before.
        progress: Show progress bars on stderr.
        more: What else is scored.

    Returns:
        One row a model: `quality` (with the interval of its difference from the first), `parameters`, `components`,
        `macs`, `bytes`, `latency`, and what else `bench` says of a model.
    """
    settings = HEADLINE if latency else UNTIMED
    found: list[dict[str, Any]] = bench(models, task, data, seed, known_answers, settings, progress, more)["models"]
    for row in found:
        row.pop("latencies", None)
    return found
