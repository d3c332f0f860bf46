"""An export from beginning to end: trace, prove equal, fuse, quantize, and put the files into place."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfcompress import environment
from hfcompress.data import TaskData
from hfcompress.export.backends.base import find_backend
from hfcompress.export.careful import Careful
from hfcompress.export.cases import answered_cases
from hfcompress.export.config import ExportConfig
from hfcompress.export.files import write_quantized
from hfcompress.export.validation import Proof
from hfcompress.export.variants import FUSED, fastest_variant, float_variants, move
from hfcompress.folders import move_into_place
from hfcompress.memory import give_back
from hfcompress.modeling.onnx_model import ONNX_FOLDER
from hfcompress.quantization.batch_norm import fold_batch_norms
from hfcompress.quantization.files import load_graph
from hfcompress.tasks import Task

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def export_onnx(
    model: PreTrainedModel,
    processor: Any,
    task: Task,
    folder: Path,
    config: ExportConfig,
    data: TaskData | None = None,
    seed: int = 42,
    say: Callable[[str], None] = lambda text: None,
    progress: bool = True,
) -> dict[str, Any]:
    """Write a model's ONNX files into `folder/onnx`; all of them appear, or none.

    The model is given up once it has answered, if the caller holds no reference to it.

    Args:
        model: The model, in evaluation mode; it is left as it was.
        processor: Its tokenizer or image processor.
        task: What it is for.
        folder: The model's folder.
        config: How it is exported.
        data: Rows to validate on beside made-up ones; `max_drop` needs them.
        seed: Decides which rows choose the nodes that stay in float, and which confirm.
        say: Told in one line what happens.
        progress: Show progress bars on stderr.

    Returns:
        What `compression.json` says of it under `export`.

    Raises:
        RequestError: The backend is not installed.
        ExportError: The model cannot be traced, or a graph does not answer as the model does; nothing is written.
    """
    start = time.perf_counter()
    backend = find_backend(config.backend)
    with tempfile.TemporaryDirectory(prefix=".onnx-", dir=folder) as place:
        work = Path(place)
        say(f"tracing with the {backend.name} backend")
        traced = work / "traced"
        traced.mkdir()
        files = backend.trace(model, task, traced, config.opset)
        graphs = [load_graph(file) for file in files]
        cases = answered_cases(model, task, {v.name for g in graphs for v in g.graph.input}, processor, data)
        model_config = model.config
        del model
        give_back()
        opset = next(one.version for one in graphs[0].opset_import if not one.domain)
        proof = Proof(cases, config.tolerance, model_config.problem_type == "multi_label_classification")
        model_config.save_pretrained(work)  # beside the graphs, as whoever opens them expects
        careful = Careful(work, config, task, processor, data, seed)
        record = _make(files, work, model_config, task, config, proof, careful, say)
        move_into_place(work / ONNX_FOLDER, folder / ONNX_FOLDER)
    return {
        "backend": backend.name,
        "opset": opset,
        **record,
        "versions": environment.versions(),
        "hardware": environment.hardware(),
        "seconds": round(time.perf_counter() - start, 1),
    }


def _make(
    traced: Sequence[Path],
    work: Path,
    model_config: PretrainedConfig,
    task: Task,
    config: ExportConfig,
    proof: Proof,
    careful: Careful,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Turn traced graphs into the files that ship, in `work/onnx`; return the record.

    Raises:
        ExportError: A float graph does not answer as the model does.
    """
    folded = sum(map(fold_batch_norms, traced)) if config.fusion != "off" else 0
    say("comparing the graph with PyTorch")
    record: dict[str, Any] = {"validation": proof.require(traced).to_dict()}
    give_back()
    if config.fusion != "off":
        say("fusing")
    variants, why_not = float_variants(traced, work, model_config, config, proof)
    give_back()
    best, figures = fastest_variant(variants, model_config, task)
    give_back()
    record["fused"] = best.name == FUSED
    record["fusion"] = {"operators": best.operators, "why_not": why_not, "measured": figures}
    if folded:
        record["fusion"]["batch_norms"] = folded
    if best.validation is not None:
        record["validation"] = best.validation.to_dict()
    made = work / ONNX_FOLDER
    made.mkdir()
    record |= write_quantized(variants, best, made, config, model_config, proof, careful, say)
    move(best.files, made)
    record["files"] = {f"{ONNX_FOLDER}/{file.name}": {"bytes": file.stat().st_size} for file in sorted(made.iterdir())}
    return record
