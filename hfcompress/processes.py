"""Which of the processes that `accelerate launch` or `torchrun` started this one is."""

from __future__ import annotations

import os


def is_main_process() -> bool:
    """Say whether this is the one process that writes files and speaks; a lone process is."""
    return int(os.environ.get("RANK", "0")) == 0
