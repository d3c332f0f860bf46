"""The backend that traces with Optimum ONNX: its configs and patches, torch's tracer, our own writing of weights."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfcompress.errors import ExportError, Fault, RequestError
from hfcompress.export.backends.base import FAMILY, BackendOptions
from hfcompress.export.layout import DECODER, ENCODER, MODEL, graph_names
from hfcompress.export.weights import find_weights
from hfcompress.export.writing import Weight, write_graph
from hfcompress.registry import register

if TYPE_CHECKING:
    import onnx
    from transformers import PreTrainedModel

    from hfcompress.tasks import Task

_TASKS = {
    "sentence-similarity": "feature-extraction",
    "text-generation": "text-generation-with-past",
    "text2text-generation": "text2text-generation-with-past",
}
"""Optimum's name of a task, where it is another."""

_LAST_OPSET = 20  # of torch's tracer


@register(FAMILY, "optimum", BackendOptions)
class OptimumBackend:
    """Traces with Optimum ONNX, which needs transformers 4.57."""

    name = "optimum"

    def check(self) -> None:
        """Make sure that Optimum ONNX is installed and fits this transformers.

        Raises:
            RequestError: It is not, or does not.
        """
        fix = (
            "Run: pip install 'hfcompress[optimum]'; it brings transformers 4.57, "
            "in the place of transformers 5 where that is installed."
        )
        try:
            version("optimum-onnx")
        except PackageNotFoundError:
            problem = "needs Optimum ONNX, which is not installed."
            raise RequestError(Fault("backend optimum", problem, fix)) from None
        if not version("transformers").startswith("4."):
            problem = f"does not work with transformers {version('transformers')}."
            raise RequestError(Fault("backend optimum", problem, fix))

    def trace(self, model: PreTrainedModel, task: Task, folder: Path, opset: int | None) -> list[Path]:
        """Write a model's graphs into a folder.

        A graph is traced without its weights, which are then written from the model's own tensors one by one: torch's
        tracer alone would hold every weight four times.

        Args:
            model: The model; it is left as it was.
            task: What it is for.
            folder: An empty folder.
            opset: Version of the operator set; None for the one that Optimum has tested.

        Raises:
            RequestError: The operator set is newer than torch's tracer.
            ExportError: Optimum does not know how, or an operator is not in the operator set.
        """
        if opset is not None and opset > _LAST_OPSET:
            fix = "Give a lower --opset, or try --backend native, under transformers 5."
            raise RequestError(Fault("opset", f"is {opset}; torch's tracer writes up to {_LAST_OPSET}.", fix))
        parts = _parts(model, task)
        opset = opset or next(iter(parts.values()))[1].DEFAULT_ONNX_OPSET
        with _config_as_it_was(model):
            graphs = {name: _trace(part, config, opset) for name, (part, config) in parts.items()}
        if len(graphs) == 3:
            merged = _merge(graphs.pop("decoder_model"), graphs.pop("decoder_with_past_model"), folder)
            graphs[Path(DECODER).stem] = merged
        for name, (graph, weights) in graphs.items():
            write_graph(graph, weights, folder / f"{name}.onnx")
        return [folder / name for name in graph_names(task, model.config)]


def _parts(model: PreTrainedModel, task: Task) -> dict[str, tuple[PreTrainedModel, Any]]:
    """Return the parts that become graphs, each with Optimum's config of it, by the name of the file."""
    from optimum.exporters.onnx import model_configs  # noqa: F401  # enters the configs into the TasksManager
    from optimum.exporters.utils import get_decoder_models_for_export, get_encoder_decoder_models_for_export

    config = _onnx_config(model, task)
    parts: dict[str, tuple[PreTrainedModel, Any]] = {Path(MODEL).stem: (model, config)}
    if graph_names(task, model.config) == (ENCODER, DECODER):
        parts = get_encoder_decoder_models_for_export(model, config)
    elif task.name == "text-generation":
        parts = get_decoder_models_for_export(model, config)
    return parts


def _onnx_config(model: PreTrainedModel, task: Task) -> Any:
    """Return Optimum's config; where it has none for a task of one answer a text or image, the usual one.

    Raises:
        ExportError: It has none for a task whose models keep a cache.
    """
    from optimum.exporters.tasks import TasksManager

    name = _TASKS.get(task.name, task.name)
    try:
        constructor = TasksManager.get_exporter_config_constructor(
            exporter="onnx", model_type=model.config.model_type, task=name, library_name="transformers"
        )
    except (KeyError, ValueError) as error:
        if name.endswith("-with-past"):
            raise ExportError(
                f"Optimum has no export of {model.config.model_type} for {task.name}. "
                "Try --backend native, under transformers 5."
            ) from error
        return _usual_config(model, name)
    return constructor(model.config, float_dtype="fp32", int_dtype="int64")


def _usual_config(model: PreTrainedModel, task: str) -> Any:
    """Return a config for what takes token ids and a mask, or pixels."""
    from optimum.exporters.onnx.model_configs import DistilBertOnnxConfig, ViTOnnxConfig
    from optimum.utils import NormalizedTextConfig

    class TextConfig(DistilBertOnnxConfig):
        NORMALIZED_CONFIG_CLASS = NormalizedTextConfig

    usual = ViTOnnxConfig if model.main_input_name == "pixel_values" else TextConfig
    return usual(model.config, task=task)


def _trace(model: PreTrainedModel, config: Any, opset: int) -> tuple[onnx.ModelProto, dict[str, Weight]]:
    """Trace one part; return its graph and what of the model's tensors stands in it.

    Raises:
        ExportError: An operator is not in the operator set, or tracing failed otherwise.
    """
    import onnx
    import torch
    from optimum.utils import DEFAULT_DUMMY_SHAPES

    takes = signature(model.forward).parameters
    more = {"logits_to_keep": 0} if "logits_to_keep" in takes else {}
    inputs = config.rename_ambiguous_inputs(config.generate_dummy_inputs(framework="pt", **DEFAULT_DUMMY_SHAPES))
    _end_texts(inputs, model)
    file = io.BytesIO()
    with torch.no_grad(), config.patch_model_for_export(model, model_kwargs=more), _tracing(model, opset):
        axes = config.ordered_inputs(model)
        torch.onnx.export(
            model,
            (inputs,),
            file,  # type: ignore[arg-type]  # torch's old tracer takes an open file too
            export_params=False,
            input_names=list(axes),
            output_names=list(config.outputs),
            dynamic_axes={**axes, **config.outputs},
            do_constant_folding=False,  # weights are not there yet; `find_weights` does it
            opset_version=opset,
            dynamo=False,
        )
        graph = onnx.load_from_string(file.getvalue())
        _fix_sizes(graph, config, lambda: model(**inputs))
    tensors = model.state_dict()
    return graph, find_weights(graph, tensors.get)


def _end_texts(inputs: dict[str, Any], model: PreTrainedModel) -> None:
    """Let random texts end with their one end-of-sequence token: there encoder-decoders classify a text."""
    end, tokens = model.config.eos_token_id, inputs.get("input_ids")
    if model.config.is_encoder_decoder and isinstance(end, int) and tokens is not None:
        tokens[tokens == end] = end + 1 if end + 1 < model.config.vocab_size else end - 1
        tokens[:, -1] = end


@contextmanager
def _tracing(model: PreTrainedModel, opset: int) -> Iterator[None]:
    """Keep the tracer's warnings away, and say in one sentence why a model cannot be traced."""
    import torch
    from torch.onnx.errors import OnnxExporterError

    kind, log = type(model).__name__, torch._C._jit_onnx_log
    torch._C._jit_onnx_log = lambda *_: None  # it would print the whole graph to stdout
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except OnnxExporterError as error:
        found = re.search(r"operator '?([\w:]+)'?", str(error))
        what = f"the operator {found[1]}" if found else "one of its operators"
        raise ExportError(
            f"{kind} needs {what}, which opset {opset} does not have. "
            f"Give another --opset, up to {_LAST_OPSET}, or try --backend native, under transformers 5."
        ) from error
    except Exception as error:  # whatever a model's own code raises
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise ExportError(
            f"{kind} cannot be traced by Optimum: {reason}. Try --backend native, under transformers 5."
        ) from error
    finally:
        torch._C._jit_onnx_log = log


def _fix_sizes(graph: onnx.ModelProto, config: Any, run: Any) -> None:
    """Write down the sizes of outputs that the tracer took for changeable, such as the number of labels."""
    from torch.utils._pytree import tree_leaves

    known = {axis for axes in (*config.inputs.values(), *config.outputs.values()) for axis in axes.values()}
    values = list(graph.graph.output)
    dims = [value.type.tensor_type.shape.dim for value in values]
    if all(size.dim_value or size.dim_param in known for sizes in dims for size in sizes):
        return
    for sizes, tensor in zip(dims, tree_leaves(dict(run())), strict=True):
        for size, actual in zip(sizes, tensor.shape, strict=True):
            if not size.dim_value and size.dim_param not in known:
                size.dim_value = actual


@contextmanager
def _config_as_it_was(model: PreTrainedModel) -> Iterator[None]:
    """Undo what Optimum changes in the model's configs."""
    configs = {id(module.config): module.config for module in model.modules() if hasattr(module, "config")}
    before = {key: dict(vars(config)) for key, config in configs.items()}
    try:
        yield
    finally:
        for key, config in configs.items():
            vars(config).clear()
            vars(config).update(before[key])


def _merge(
    first: tuple[onnx.ModelProto, dict[str, Weight]], later: tuple[onnx.ModelProto, dict[str, Weight]], folder: Path
) -> tuple[onnx.ModelProto, dict[str, Weight]]:
    """Join the decoder of the first token and that of the later ones, which read the same weights, under one `If`."""
    import onnx
    from optimum.onnx import merge_decoders

    for graph, weights in (first, later):
        for name, weight in weights.items():
            kind = weight.header(name).data_type
            graph.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, weight.shape))
    file = folder / "merged.onnx"
    merged = merge_decoders(decoder=first[0], decoder_with_past=later[0], save_path=file, strict=False)
    file.unlink()
    weights = first[1] | later[1]
    real = [value for value in merged.graph.input if value.name not in weights]
    del merged.graph.input[:]
    merged.graph.input.extend(real)
    return merged, weights
