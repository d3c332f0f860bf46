"""What a method is given beside the model and its config: task, data, seed, a place to work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Interval

from hfcompress.data import TaskData
from hfcompress.tasks import Task

Seed = Annotated[int, Interval(ge=0, lt=2**32)]
"""What numpy takes for a seed."""


@dataclass
class Context:
    """The surroundings of one step.

    Args:
        task: What the model is for.
        data: Checked rows, not yet tokenized.
        processor: The current model's tokenizer or image processor; a step that changes the vocabulary replaces it.
        seed: Decides everything random.
        work_dir: A folder of the step's own, which outlives a stopped run: checkpoints go here.
        earlier: Folders of the models that earlier steps made, by the name that the recipe gave them.
        progress: Whether to show a progress bar on stderr.
        findings: What the step found out, for its record and the report; anything that JSON can hold.
        say: Told in one line what the user should know.
    """

    task: Task
    data: TaskData
    processor: Any
    seed: Seed
    work_dir: Path
    earlier: dict[str, Path]
    progress: bool = True
    findings: dict[str, Any] = field(default_factory=dict)
    say: Callable[[str], None] = lambda text: None
