"""What a result depends on beside its own settings: versions of packages, and the machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from hfcompress._version import __version__

TRAINING = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "safetensors", "numpy")
"""What a trained model depends on."""

RUNTIME = ("onnx", "onnxruntime", "optimum", "optimum-onnx", "onnxscript")
"""What ONNX files are made by and run with."""


def versions(packages: Iterable[str] = (*TRAINING, *RUNTIME)) -> dict[str, str]:
    """Return the versions of hfcompress, Python and packages; those that are not installed are left out."""
    found = {"hfcompress": __version__, "python": platform.python_version()}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """Describe the machine: processor, cores, accelerator. No host or user name."""
    import torch

    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "accelerator": accelerator,
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def available_cores() -> int:
    """Return how many cores this process may use: those that the system gives it, or fewer by OMP_NUM_THREADS."""
    has_affinity = hasattr(os, "sched_getaffinity")  # not on macOS and Windows
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(wanted)) if wanted.isdigit() and int(wanted) else cores
