"""Finding the checkpoint to go on from."""

from __future__ import annotations

import math
from pathlib import Path

from safetensors import SafetensorError, safe_open


def checkpoints(folder: Path) -> list[Path]:
    """Return the Trainer's complete checkpoints in a folder, newest first."""
    found = [path for path in folder.glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)


def last_good_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint whose weights are all finite, or None."""
    return next((path for path in checkpoints(folder) if _is_finite(path)), None)


def _is_finite(checkpoint: Path) -> bool:
    files = list(checkpoint.glob("model*.safetensors"))
    try:
        return bool(files) and all(_all_finite(file) for file in files)
    except (OSError, SafetensorError):
        return False


def _all_finite(file: Path) -> bool:
    with safe_open(file, framework="pt") as weights:
        # The sum of a tensor is finite only if no element is NaN or infinite (float64 cannot overflow here).
        return all(math.isfinite(weights.get_tensor(name).double().sum().item()) for name in weights.keys())
