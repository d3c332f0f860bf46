"""Where exported files lie and what they are called: the names that Optimum and transformers.js look for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from hfcompress.tasks import Task

MODEL = "model.onnx"
ENCODER = "encoder_model.onnx"
DECODER = "decoder_model_merged.onnx"

LARGEST_FILE = 2**31 - 2**20
"""Bytes of the largest file that protobuf reads; the weights of a larger one lie in a second file."""


def graph_names(task: Task, config: PretrainedConfig) -> tuple[str, ...]:
    """Return the names of a model's graphs: one, or those of an encoder and a decoder that write a text."""
    return (ENCODER, DECODER) if task.writes and config.is_encoder_decoder else (MODEL,)


def external_name(file: Path) -> str:
    """Return the name of the file with the weights of a graph that is too large for one: beside it.

    Example:
        >>> external_name(Path("onnx/model.onnx"))
        'model.onnx_data'
    """
    return file.name + "_data"


def with_suffix(name: str, suffix: str) -> str:
    """Return a graph's name with a suffix that says its precision.

    Example:
        >>> with_suffix("model.onnx", "quantized")
        'model_quantized.onnx'
    """
    return f"{Path(name).stem}_{suffix}.onnx"
