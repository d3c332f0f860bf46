"""Pruned models, also those without any head or neuron in a layer, are exported as any other: graphs answer alike."""

import pytest

pytest.importorskip("onnxruntime")

import onnx

from hfcompress.export.backends.base import find_backend
from hfcompress.export.cases import answered_cases
from hfcompress.export.validation import Graphs, Proof
from hfcompress.modeling.groups import groups_of
from hfcompress.modeling.surgery import keep_units
from hfcompress.quantization.fusion import fuse
from tests.export.support import task_of_head
from tests.modeling.test_surgery import nothing, with_emptied
from tests.tiny import tiny_head


def traced(model, head, folder):
    return find_backend("auto").trace(model, task_of_head(head), folder, None)


@pytest.mark.parametrize(
    ("family", "head"),
    [
        ("bert", "ForSequenceClassification"),
        ("mpnet", "ForTokenClassification"),
        pytest.param("t5", "ForSeq2SeqLM", marks=pytest.mark.slow),
        pytest.param("gpt2", "ForCausalLM", marks=pytest.mark.slow),
        pytest.param("qwen3", "ForCausalLM", marks=pytest.mark.slow),
        pytest.param("squeezebert", "ForSequenceClassification", marks=pytest.mark.slow),
        pytest.param("deberta-v2", "ForSequenceClassification", marks=pytest.mark.slow),
        pytest.param("modernbert", "ForSequenceClassification", marks=pytest.mark.slow),
    ],
)
def test_answers_as_in_pytorch(family, head, tmp_path):
    if head.endswith("LM"):  # Optimum gives each layer's cache as many heads as the config says
        pytest.importorskip("transformers.exporters")
    model = tiny_head(family, head)
    keep_units(model, with_emptied(groups_of(model)))
    files = traced(model, head, tmp_path)
    cases = answered_cases(model, task_of_head(head), Graphs(files).input_names)
    Proof(cases, 1e-5).require(files)


def test_what_was_emptied_is_not_in_the_graph(tmp_path):
    model = tiny_head("bert", "ForSequenceClassification", layers=1)
    keep_units(model, nothing(groups_of(model)))
    (file,) = traced(model, "ForSequenceClassification", tmp_path)
    operators = {node.op_type for node in onnx.load(file).graph.node}
    assert "Softmax" not in operators
    assert "Erf" not in operators


def test_fused_attention_has_each_layers_own_heads(tmp_path):
    pytest.importorskip("optimum.onnx")  # the pattern is found in graphs that it traced
    head = "ForSequenceClassification"
    model = tiny_head("bert", head)
    keep_units(model, {"encoder.layer.0.heads": [0, 1, 3], "encoder.layer.1.heads": [2]})
    (file,) = traced(model, head, tmp_path)
    fused = tmp_path / "fused.onnx"
    assert fuse(file, fused, "bert", heads=4, hidden=32)["MultiHeadAttention"] == 2
    Proof(answered_cases(model, task_of_head(head), Graphs([file]).input_names), 1e-5).require([fused])
