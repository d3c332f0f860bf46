"""Fusion: real graphs of both exporters, which answer as before, fused and in int8."""

import numpy as np
import onnx
import pytest
import torch

from hfcompress.quantization.dynamic import quantize_dynamic
from hfcompress.quantization.fusion import fuse
from tests.quantization.graphs import product, run
from tests.tiny import tiny_inputs, tiny_model


def trace(model, path, dynamo=False):
    inputs = tiny_inputs(model)
    names = list(inputs)
    axes = {name: {0: "batch_size", 1: "sequence_length"} for name in names}
    options = {"input_names": names, "output_names": ["logits"], "dynamo": dynamo, "opset_version": 18}
    if dynamo:
        options["dynamic_shapes"] = {name: {0: "batch", 1: "length"} for name in names}
    else:
        options["dynamic_axes"] = {**axes, "logits": {0: "batch_size"}}
    model.config.return_dict = False
    torch.onnx.export(model, (), str(path), kwargs=inputs, **options)
    return {name: value.numpy() for name, value in inputs.items()}


@pytest.fixture(params=["torchscript", "dynamo"])
def exported(request, tmp_path):
    """A tiny BERT's graph and its inputs."""
    if request.param == "dynamo":
        pytest.importorskip("onnxscript")
    path = tmp_path / "model.onnx"
    try:
        inputs = trace(tiny_model(), path, dynamo=request.param == "dynamo")
    except Exception as error:  # which exporters read which models is the business of the export backends
        pytest.skip(f"torch cannot export it here: {error}")
    return path, inputs


def test_a_fused_graph_answers_as_before(exported, tmp_path):
    source, inputs = exported
    found = fuse(source, tmp_path / "fused.onnx", "bert", heads=4, hidden=32)
    if not found:
        pytest.skip("ONNX Runtime does not recognise this exporter's attention")
    assert found == {"MultiHeadAttention": 2, "Gelu": 2}
    (before,), (after,) = (run(path, **inputs) for path in (source, tmp_path / "fused.onnx"))
    np.testing.assert_allclose(after, before, atol=1e-5)
    graphs = [onnx.load(str(path)).graph for path in (source, tmp_path / "fused.onnx")]
    for part in ("input", "output"):
        one, other = ([(v.name, v.type) for v in getattr(graph, part)] for graph in graphs)
        assert one == other


def test_a_real_graph_in_int8_answers_nearly_as_before(exported, tmp_path):
    source, inputs = exported
    nodes = quantize_dynamic(source, tmp_path / "small.onnx")
    assert {"MatMul": 12, "Gather": 2}.items() <= nodes.counts.items() or sum(nodes.counts.values()) >= 14
    (before,), (after,) = (run(path, **inputs) for path in (source, tmp_path / "small.onnx"))
    np.testing.assert_allclose(after, before, atol=0.06 * np.abs(before).max())
    assert nodes.bytes_after < nodes.bytes_before


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "t5", "bart", "vit", "unheard-of"])
def test_where_no_pattern_matches_nothing_is_written(tmp_path, model_type):
    assert fuse(product(tmp_path / "a.onnx"), tmp_path / "b.onnx", model_type, 4, 32) == {}
    assert not (tmp_path / "b.onnx").exists()


def test_layers_of_fewer_heads_are_told_by_their_width(tmp_path):
    model = tiny_model()
    attention = model.bert.encoder.layer[0].attention
    for name in ("query", "key", "value"):
        setattr(attention.self, name, torch.nn.Linear(32, 16))
    attention.self.num_attention_heads, attention.self.all_head_size = 2, 16
    attention.output.dense = torch.nn.Linear(16, 32)
    inputs = trace(model, tmp_path / "model.onnx")
    if not fuse(tmp_path / "model.onnx", tmp_path / "fused.onnx", "bert", 4, 32):
        pytest.skip("ONNX Runtime does not recognise the attention of this version of transformers")
    (before,), (after,) = (run(tmp_path / name, **inputs) for name in ("model.onnx", "fused.onnx"))
    np.testing.assert_allclose(after, before, atol=1e-5)
    heads = [onnx.helper.get_node_attr_value(node, "num_heads") for node in attentions(tmp_path / "fused.onnx")]
    assert heads == [2, 4]


def test_without_the_number_of_heads_nothing_is_fused(tmp_path):
    trace(tiny_model(), tmp_path / "model.onnx")
    assert fuse(tmp_path / "model.onnx", tmp_path / "fused.onnx", "bert") == {}
    assert not (tmp_path / "fused.onnx").exists()


def attentions(path):
    return [node for node in onnx.load(str(path)).graph.node if node.op_type == "MultiHeadAttention"]
