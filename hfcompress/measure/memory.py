"""Peak memory: what a fresh process holds at most that loads a model and answers once.

`python -m hfcompress.measure.memory RUNTIME MODEL INPUTS.npz TASK` is that process. It prints two numbers of bytes: the
peak once the runtime is imported, and the peak at the end. For an ONNX file it imports ONNX Runtime alone, as a program
that ships the file would; torch would add hundreds of megabytes that have nothing to do with the model.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hfcompress.errors import HfcompressError
from hfcompress.modeling.onnx_model import is_onnx

_SECONDS = 600


def peak_memory(source: str, inputs: dict[str, Any], task_name: str) -> dict[str, int] | None:
    """Measure a model in a process of its own, on one thread.

    Args:
        source: A folder, a Hub id or an ONNX file.
        inputs: One batch, as numpy arrays by the names that the model takes.
        task_name: Decides the class of a PyTorch model.

    Returns:
        `bare`, the peak of the process without a model, and `peak`, with it, in bytes; None on systems that do not
        say (all but Linux and macOS).

    Raises:
        HfcompressError: The process failed.
    """
    import numpy as np

    if sys.platform not in ("linux", "darwin"):
        return None
    with tempfile.TemporaryDirectory(prefix="hfcompress-") as folder:
        file = Path(folder) / "inputs.npz"
        np.savez(file, **inputs)
        runtime = "onnxruntime" if is_onnx(source) and not is_pair(source) else "torch"
        words = [sys.executable, "-m", "hfcompress.measure.memory", runtime, source, str(file), task_name]
        done = subprocess.run(words, capture_output=True, text=True, timeout=_SECONDS, check=False)  # noqa: S603
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        raise HfcompressError(f"The memory of {Path(source).name} could not be measured: {lines[-1]}")
    found: dict[str, int] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def is_pair(source: str) -> bool:
    """Say whether an ONNX file is half of an encoder-decoder, which needs torch for what stands between the halves."""
    from hfcompress.measure.onnx_size import files_of

    return is_onnx(source) and len(files_of(Path(source))) > 1


def main(runtime: str, source: str, inputs: str, task_name: str) -> None:
    """Load a model, answer once, and print what that took."""
    bare, _ = _run_onnx(source, inputs) if runtime == "onnxruntime" else _run_torch(source, inputs, task_name)
    print(json.dumps({"bare": bare, "peak": peak_rss()}))  # noqa: T201


def _run_onnx(source: str, inputs: str) -> tuple[int, Any]:
    import numpy as np
    import onnxruntime

    arrays = dict(np.load(inputs, allow_pickle=False))
    bare = peak_rss()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    names = {node.name for node in session.get_inputs()}
    return bare, session.run(None, {name: array for name, array in arrays.items() if name in names})


def _run_torch(source: str, inputs: str, task_name: str) -> tuple[int, Any]:
    import numpy as np
    import torch
    import transformers

    from hfcompress.measure.runnable import load_runnable
    from hfcompress.tasks import find_task

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    task = find_task(task_name)
    getattr(transformers, task.auto_model)  # transformers imports its classes when they are first named
    batch = {name: torch.from_numpy(array) for name, array in dict(np.load(inputs, allow_pickle=False)).items()}
    bare = peak_rss()
    with torch.inference_mode():
        return bare, load_runnable(source, task, threads=1)(**batch)


def peak_rss() -> int:
    """Return the most memory that this process has held since it was started, in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Not getrusage: after fork and exec that still counts the parent's memory.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


if __name__ == "__main__":
    main(*sys.argv[1:])
