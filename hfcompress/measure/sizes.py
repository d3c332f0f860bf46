"""What a model is, whichever kind: runtime, numbers, bytes by component, parameters, work, and structure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfcompress.measure.onnx_size import OTHER, OnnxWeight, onnx_bytes, precision_of, read_weights
from hfcompress.measure.runnable import Runnable, file_of
from hfcompress.measure.size import by_component, empty_model, measure_size, namer, tensor_bytes, weight_bytes
from hfcompress.measure.structure import layer_structure
from hfcompress.measure.zeros import FEW_ZEROS, count_zeros, describe_zeros, zeros_by_layer
from hfcompress.modeling.onnx_model import is_onnx
from hfcompress.sources import resolve
from hfcompress.tasks import Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def describe(source: str, model: Runnable, task: Task, length: int) -> dict[str, Any]:
    """Return what can be said of a model without running it.

    Args:
        source: Where it came from.
        model: The same, loaded.
        task: Decides its head.
        length: Tokens to count multiply-accumulates for.

    Returns:
        `runtime`, `precision`, `file`, `bytes`, `component_bytes` (they add up to `bytes`), `parameters`, `components`,
        `macs`, `length`, `layers`; of a PyTorch model on disk also `zeros`, the share of its parameters that is exactly
        0, `component_zeros`, and where there are many those of each layer. Parameters and work of an ONNX file are
        those of the model it was made from.
    """
    skeleton = empty_model(model.config, task)
    size = measure_size(model.config, task, length).to_dict()
    if is_onnx(source):
        return {**size, **_describe_onnx(Path(source), skeleton), "file": file_of(source), "components": None}
    on_disk, by_name = _pytorch_bytes(source, size["parameters"], namer(skeleton), size["components"])
    return {
        "runtime": "PyTorch",
        "precision": "float32",
        "file": file_of(source),
        "bytes": on_disk,
        **size,
        "component_bytes": by_name,
        **_layers_and_zeros(source, skeleton),
    }


def _layers_and_zeros(source: str, skeleton: PreTrainedModel) -> dict[str, Any]:
    """Return layers and zeros of a PyTorch model; of zeros nothing is said where it lies in the Hub's cache."""
    layers, folder = layer_structure(skeleton), Path(resolve(source))
    if not folder.is_dir():
        return {"layers": layers}
    counts = count_zeros(folder)
    each = zeros_by_layer(counts, skeleton)
    if layers and each and max(each) > FEW_ZEROS:
        layers = [{**layer, "zeros": share} for layer, share in zip(layers, each, strict=True)]
    return {"layers": layers, **describe_zeros(counts, skeleton)}


def _describe_onnx(file: Path, skeleton: PreTrainedModel) -> dict[str, Any]:
    # Those that hold weights of their own: a name that says less would not tell attention from the norm after it.
    modules = [name for name, module in skeleton.named_modules() if any(True for _ in module.parameters(recurse=False))]
    weights = read_weights(file, modules)
    on_disk = onnx_bytes(file)
    known = {
        "runtime": "ONNX Runtime",
        "precision": precision_of(weights) if weights else None,
        "bytes": on_disk,
        "component_bytes": None,
        "layers": layer_structure(skeleton, weights) if weights else None,
    }
    return {**known, "component_bytes": _onnx_components(weights, namer(skeleton), on_disk)} if weights else known


def _onnx_components(weights: list[OnnxWeight], name_component: Callable[[str], str], on_disk: int) -> dict[str, int]:
    found: dict[str, int] = {}
    for weight in weights:
        component = name_component(f"{weight.module}.weight") if weight.module else OTHER
        found[component] = found.get(component, 0) + weight.bytes
    return _with_rest(found, on_disk)


def _pytorch_bytes(
    source: str, parameters: int, name_component: Callable[[str], str], components: dict[str, int]
) -> tuple[int, dict[str, int]]:
    """Return bytes on disk and by component; of a model that lies in the Hub's cache, what it takes in float32."""
    folder = Path(resolve(source))
    if not folder.is_dir():
        return 4 * parameters, {name: 4 * count for name, count in components.items()}
    on_disk = weight_bytes(folder)
    return on_disk, _with_rest(by_component(tensor_bytes(folder), name_component), on_disk)


def _with_rest(components: dict[str, int], total: int) -> dict[str, int]:
    """Add what no component takes, such as a file's header."""
    rest = total - sum(components.values())
    return {**components, OTHER: components.get(OTHER, 0) + rest} if rest else components
