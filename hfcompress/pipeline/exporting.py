"""A checkpoint and its ONNX files in one output folder, which appears whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfcompress import environment
from hfcompress.data import DataConfig, TaskData, load_validation
from hfcompress.errors import Fault, InterruptedByUserError, ModelError, OutputExistsError, RequestError
from hfcompress.export.backends.base import find_backend
from hfcompress.export.config import ExportConfig
from hfcompress.export.layout import graph_names, with_suffix
from hfcompress.export.run import export_onnx
from hfcompress.folders import RECORD, move_into_place, owned, require_space, scratch_folder
from hfcompress.measure.size import measure_size
from hfcompress.modeling.load import load_config, load_model, load_processor
from hfcompress.modeling.manifest import quantized_by
from hfcompress.modeling.onnx_model import ONNX_FOLDER
from hfcompress.pipeline import provenance
from hfcompress.pipeline.finishing import finish, onnx_models
from hfcompress.pipeline.held_out import seen_before
from hfcompress.pipeline.record import data_record
from hfcompress.quantization.trained_ranges import read_ranges
from hfcompress.sources import is_local, resolve
from hfcompress.tasks import Task, find_task, task_of_config, trained_labels

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_CHECKPOINT = ("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json")


@dataclass
class ExportJob:
    """An export with everything it names looked up and checked.

    Args:
        model: What the user typed.
        task: What the model is for.
        config: Its config.
        settings: How it is exported.
        data: Checked rows, when data was named.
        dataset: What the user called them.
        backend: Name of the backend that traces.
        seed: Decides everything random.
    """

    model: str
    task: Task
    config: PretrainedConfig
    settings: ExportConfig
    data: TaskData | None
    dataset: str
    backend: str
    seed: int

    @property
    def files(self) -> list[str]:
        """The ONNX files, as they lie in the output folder."""
        graphs = graph_names(self.task, self.config)
        fewer = [with_suffix(name, suffix) for suffix in self.settings.suffixes.values() for name in graphs]
        return [f"{ONNX_FOLDER}/{name}" for name in (*graphs, *fewer)]

    @property
    def disk_bytes(self) -> int:
        """What the export writes at most: the checkpoint, graphs traced and fused, and both by each method."""
        fused = 2 if self.settings.fusion != "off" else 1
        methods = self.settings.methods
        fewer = 0.5 * fused * len(methods)  # float16 is the largest
        smoothed = 1 if "smooth_quant" in methods else 0
        return int((1 + fused + fewer + smoothed) * 4 * measure_size(self.config, self.task).parameters)


def prepare(
    model: str, settings: ExportConfig, task: str | None = None, data: DataConfig | None = None, seed: int = 42
) -> ExportJob:
    """Look up and check everything that an export names, before anything long starts.

    Args:
        model: Hub id, folder or short name.
        settings: How it is exported.
        task: What the model is for; None for what its architecture says.
        data: Rows to measure quality on; `max_drop` needs them.
        seed: Decides which rows a fraction holds out.

    Raises:
        RequestError: Something is wrong with model, data or settings, or no backend is installed.
        ModelError: The model has no trained head, or its weights are quantized already.
        NetworkError: Something would have to come from the Hub, which cannot be reached.
    """
    config = load_config(model)
    _refuse_quantized(config, model)
    chosen = find_task(task) if task else task_of_config(config, model)
    labels = trained_labels(config, chosen)
    if labels is None:
        fix = "Train it first (`hfcompress distill`), or name the task of the head that it has with --task."
        raise ModelError(Fault(model, f"has no trained head for {chosen.name}: there is nothing to export.", fix))
    if settings.max_drop is not None and data is None:
        raise RequestError(Fault("max_drop", "is measured on data.", "Name some with --dataset."))
    hungry = [name for name in settings.needs_data if name != "static" or not read_ranges(config)]
    if hungry and data is None:
        names = [f"{name} with algorithm {settings.algorithm}" if name == "int4" else name for name in hungry]
        problem = f"{', '.join(names)} looks at rows of data, and none are named."
        raise RequestError(Fault("quantize", problem, "Name some with --dataset."))
    backend = find_backend(settings.backend).name
    rows = load_validation(data, labels, seed, chosen, config.problem_type) if data else None
    return ExportJob(model, chosen, config, settings, rows, data.dataset if data else "", backend, seed)


def _refuse_quantized(config: PretrainedConfig, model: str) -> None:
    """Make sure that a model's weights are floats.

    Raises:
        ModelError: Its config says that another library has quantized them.
    """
    by = quantized_by(config)
    if by is not None:
        fix = "Export the float model that it was made from; `--quantize` then writes the graph in fewer bits."
        raise ModelError(Fault(model, f"is quantized already ({by}).", fix))


def export_folder(
    job: ExportJob,
    output_dir: Path,
    overwrite: bool = False,
    progress: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Write a checkpoint, its ONNX files, record, measurements, report and card into a folder.

    The checkpoint's files are copied as they are. A record that lies beside the model is kept and extended.

    Args:
        job: What `prepare` returned.
        output_dir: Where the result goes. It may be the model's own folder, if hfcompress made that: the old one
            survives until the new one is complete.
        overwrite: Replace an existing folder once the new one is complete.
        progress: Show progress bars on stderr.
        say: Told in one line what happens.

    Returns:
        What `compression.json` holds.

    Raises:
        HfcompressError: The export failed; nothing was written.
    """
    refuse_place(job.model, output_dir, overwrite, job.dataset)
    require_space(output_dir.parent, job.disk_bytes)
    try:
        with owned(output_dir), scratch_folder(output_dir, "export") as work:
            final = work / "final"
            final.mkdir()
            record = _fill(job, final, output_dir.name, progress, say)
            move_into_place(final, output_dir)
            return record
    except KeyboardInterrupt:
        raise InterruptedByUserError("Stopped; nothing was written.") from None


def refuse_place(model: str, output_dir: Path, overwrite: bool, dataset: str = "") -> None:
    """Make sure that the result may be put there, and that the model does not go with what is replaced.

    Raises:
        OutputExistsError: It exists and is not to be replaced, or the model or the data lie inside it.
    """
    source = Path(resolve(model)).absolute()
    if output_dir.absolute() in source.parents and source.exists():
        problem = f"holds the model that is exported ({source.name}), which would go with it."
        raise OutputExistsError(Fault(str(output_dir), problem, "Choose another --output-dir."))
    provenance.refuse_output(output_dir, overwrite, [dataset])


def _fill(job: ExportJob, final: Path, name: str, progress: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Put everything into an empty folder, under the name that it is going to have; return the record."""
    for note in seen_before([job.model], job.dataset, job.data) if job.data is not None else ():
        say(f"note: {note}")
    say(f"exporting {Path(job.model).name} with the {job.backend} backend")
    processor = load_processor(job.model, job.task)
    export = export_onnx(
        load_model(job.model, job.task), processor, job.task, final, job.settings, job.data, job.seed, say, progress
    )
    _copy_checkpoint(job.model, final)
    processor.save_pretrained(final)
    record = _record(job, processor) | {"export": export}
    models: dict[str, Path | str] = {"model": final, **_graphs(final, export)}
    return finish(final, record, models, job.task, job.data, progress=progress, say=say, name=name)


def _graphs(final: Path, export: dict[str, Any]) -> dict[str, Path]:
    """Return the ONNX files to measure by what tables call them: `model ONNX`, `model int8` and so on."""
    exact = {name: file for name, file in onnx_models(final, "model").items() if name.endswith("ONNX")}
    made = export.get("quantizations") or [export.get("quantization") or {}]
    fewer = {f"model {one['asked']}": final / ONNX_FOLDER / one["files"][-1] for one in made if "files" in one}
    return exact | fewer


def _copy_checkpoint(model: str, final: Path) -> None:
    """Copy a checkpoint's config and weights, byte for byte."""
    folder = _checkpoint_folder(model)
    for pattern in _CHECKPOINT:
        for file in folder.glob(pattern):
            shutil.copyfile(file, final / file.name)


def _checkpoint_folder(model: str) -> Path:
    """Return the folder in which a model's files lie, after it was loaded: its own, or one in the Hub's cache."""
    place = resolve(model)
    if is_local(place):
        return Path(place)
    from huggingface_hub import try_to_load_from_cache

    return Path(str(try_to_load_from_cache(place, "config.json"))).parent


def _record(job: ExportJob, processor: Any) -> dict[str, Any]:
    """Return what is known of the model: the record beside it, or a new one."""
    beside = Path(resolve(job.model)) / RECORD
    known: dict[str, Any] = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    record = {
        "description": "",
        "task": job.task.name,
        "source": provenance.source_record(job.model),
        "seed": job.seed,
        "steps": [],
        "versions": environment.versions(),
        "hardware": environment.hardware(),
        **known,
    }
    if job.data is not None and "data" not in known:
        record["data"] = data_record(job.data, job.dataset, job.task, processor)
    return record
