"""The backend that traces with transformers' own ONNX exporter, under transformers 5."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import re
import warnings
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfcompress.errors import ExportError, Fault, RequestError
from hfcompress.export.backends.base import FAMILY, BackendOptions
from hfcompress.export.weights import find_weights
from hfcompress.export.writing import write_graph
from hfcompress.registry import register

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from hfcompress.export.backends.native_graphs import Graph
    from hfcompress.tasks import Task

DEFAULT_OPSET = 18
"""What Optimum writes too, and every runtime of the last years reads."""

_OPSETS = range(18, 24)
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@register(FAMILY, "native", BackendOptions)
class NativeBackend:
    """Traces with transformers' own exporter, which needs transformers 5.20 or later."""

    name = "native"

    def check(self) -> None:
        """Make sure that transformers has the exporter, and that what it stands on is installed.

        Raises:
            RequestError: Something is missing or too old.
        """
        fix = "Run: pip install 'hfcompress[onnx]' 'transformers>=5.20'; Optimum ONNX does not work beside that."
        faults = []
        if importlib.util.find_spec("transformers.exporters") is None:
            problem = f"needs transformers 5.20 or later; {version('transformers')} is installed."
            faults.append(Fault("backend native", problem, fix))
        absent = [name for name in _PACKAGES if not _is_installed(name)]
        if absent:
            problem = f"needs {', '.join(absent)}, which {'is' if len(absent) == 1 else 'are'} not installed."
            faults.append(Fault("backend native", problem, "Run: pip install 'hfcompress[onnx]'."))
        if faults:
            raise RequestError(*faults)

    def trace(self, model: PreTrainedModel, task: Task, folder: Path, opset: int | None = None) -> list[Path]:
        """Write a model's graphs into a folder.

        A graph is made without its weights, which are then written from the model's own tensors one by one.

        Args:
            model: The model, in evaluation mode; it is left as it was.
            task: What it is for.
            folder: An empty folder.
            opset: Version of the operator set, 18 to 23; None for 18.

        Returns:
            The graphs' files.

        Raises:
            RequestError: The backend is not installed, or has no such opset.
            ExportError: The model cannot be expressed.
        """
        self.check()
        from hfcompress.export.backends.native_attention import plain_attention
        from hfcompress.export.backends.native_graphs import graphs_of

        if opset is not None and opset not in _OPSETS:
            allowed = f"{_OPSETS[0]} to {_OPSETS[-1]}"
            raise RequestError(Fault("opset", f"the native backend writes {allowed}, got {opset}."))
        files = []
        with _as_export_error(model, task), plain_attention(model), _quiet():
            for graph in graphs_of(model, task):
                _write(graph, folder / graph.file, opset or DEFAULT_OPSET)
                files.append(folder / graph.file)
        return files


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _write(graph: Graph, file: Path, opset: int) -> None:
    """Trace one graph and write it, weights and all."""
    from hfcompress.export.backends.native_ir import take_out_weights, tidy, to_proto

    program = _export(graph, opset)
    weights = take_out_weights(program)
    tidy(program, graph.axes, list(graph.inputs))
    proto = to_proto(program)
    del program
    write_graph(proto, find_weights(proto, weights.get), file)


def _export(graph: Graph, opset: int) -> Any:
    """Return the graph as transformers' exporter makes it, not optimized."""
    import torch
    from transformers.exporters import OnnxConfig, OnnxExporter

    from hfcompress.export.backends.native_graphs import argument

    inputs = {argument(name): tensor for name, tensor in graph.inputs.items()}
    free = {name: dict.fromkeys(graph.axes.get(name, ()), torch.export.Dim.AUTO) for name in graph.inputs}
    shapes = {argument(name): axes for name, axes in free.items()}
    config = OnnxConfig(dynamic=True, dynamic_shapes=shapes, opset_version=opset, optimize=False)
    return OnnxExporter().export(graph.module.eval(), inputs, config).program


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' progress and warnings away: standard output is for results."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "transformers", "onnxscript", "onnx_ir")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)


@contextlib.contextmanager
def _as_export_error(model: PreTrainedModel, task: Task) -> Iterator[None]:
    """Turn whatever the exporters raise into one sentence; they share no base class but Exception."""
    try:
        yield
    except (RequestError, ExportError, OSError, MemoryError):
        raise
    except Exception as error:
        what = f"{type(model).__name__} cannot be traced for {task.name}"
        operator = re.search(r"No ONNX function found for <OpOverload\(op='([\w.:]+)'", f"{error} {error.__cause__}")
        if operator:
            reason = f"ONNX has no operator for {operator[1]}"
        else:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = f"{type(error).__name__}: {lines[0][:300].rstrip('.') if lines else 'no reason given'}"
        raise ExportError(f"{what}: {reason}. Try --backend optimum, under transformers 4.57.") from error
