"""What is measured: a PyTorch model from a folder or the Hub, or an ONNX file with the config beside it."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from hfcompress.modeling.load import load_config, load_model, load_processor
from hfcompress.modeling.onnx_model import OnnxModel, is_onnx, load_onnx, model_folder
from hfcompress.sources import is_local, resolve
from hfcompress.tasks import Task

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

Runnable: TypeAlias = Union["PreTrainedModel", OnnxModel]
"""Called with tensors by name, it returns outputs by name; it has a `config` and a `device`."""


def load_runnable(source: str, task: Task, threads: int | None = None) -> Runnable:
    """Load a model of either kind.

    Args:
        source: A folder, a Hub id or a short name; or an ONNX file, whose config lies beside it or above.
        task: Decides the class of a PyTorch model.
        threads: Threads of ONNX Runtime; None for as many as torch has now. PyTorch has one setting for all models.

    Raises:
        ModelError: There is no such model, or it cannot be used.
    """
    return load_onnx(source, threads) if is_onnx(source) else load_model(source, task)


def folder_of(source: str) -> str:
    """Return where a model's config and tokenizer are: of an ONNX file the folder, otherwise what was given.

    Raises:
        ModelError: There is no such file, or no config beside it.
    """
    return str(model_folder(Path(source))) if is_onnx(source) else source


def config_of(source: str) -> PretrainedConfig:
    """Load the config of a model of either kind.

    Raises:
        ModelError: There is none, or it is of no known architecture.
    """
    return load_config(folder_of(source))


def processor_of(source: str, task: Task) -> Any:
    """Load the tokenizer or image processor of a model of either kind.

    Raises:
        ModelError: There is none.
    """
    return load_processor(folder_of(source), task)


def inputs_of(model: Runnable) -> set[str]:
    """Return the names that a model can be called with."""
    return set(model.input_names) if isinstance(model, OnnxModel) else set(inspect.signature(model.forward).parameters)


def file_of(source: str) -> str | None:
    """Return a model's file as seen from its folder, `onnx/model.onnx`; None where it is not one file on this machine.

    Raises:
        ModelError: As `folder_of`.
    """
    if is_onnx(source):
        return Path(source).resolve().relative_to(Path(folder_of(source)).resolve()).as_posix()
    place = Path(resolve(source))
    return "model.safetensors" if is_local(str(place)) and (place / "model.safetensors").is_file() else None
