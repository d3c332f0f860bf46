"""Models whose heads are of another width than the config says are exported as any other, and fused rightly."""

import pytest

pytest.importorskip("onnxruntime")

import onnx

from hfcompress.export.cases import answered_cases
from hfcompress.export.validation import Graphs, Proof
from hfcompress.modeling.projections import heads_by_width
from hfcompress.modeling.surgery import keep_units
from hfcompress.quantization.fusion import fuse
from tests.export.support import task_of_head
from tests.export.test_pruned import traced
from tests.modeling.test_narrow_heads import narrowed
from tests.modeling.test_structure import NAMED
from tests.tiny import tiny_head

CLASSIFY = "ForSequenceClassification"


def proof_of(model, head, files):
    return Proof(answered_cases(model, task_of_head(head), Graphs(files).input_names), 1e-5)


@pytest.mark.parametrize(
    ("family", "head"),
    [
        ("bert", CLASSIFY),
        ("vit", "ForImageClassification"),
        pytest.param("mpnet", CLASSIFY, marks=pytest.mark.slow),
        pytest.param("distilbert", CLASSIFY, marks=pytest.mark.slow),
        pytest.param("albert", CLASSIFY, marks=pytest.mark.slow),
        pytest.param("bart", CLASSIFY, marks=pytest.mark.slow),
        pytest.param("t5", "ForSeq2SeqLM", marks=pytest.mark.slow),
        pytest.param("gpt2", "ForCausalLM", marks=pytest.mark.slow),
    ],
)
def test_answers_as_in_pytorch(family, head, tmp_path):
    if head.endswith("LM"):  # Optimum gives each layer's cache heads as wide as the config says
        pytest.importorskip("transformers.exporters")
    model = narrowed(tiny_head(family, head, **NAMED), 6, 3)
    files = traced(model, head, tmp_path)
    proof_of(model, head, files).require(files)


@pytest.fixture
def graph(tmp_path):
    """A model whose layers' heads are of these widths, after the first has lost some, and its graph."""

    def make(kept, *sizes):
        pytest.importorskip("optimum.onnx")  # the pattern is found in graphs that it traced
        model = keep_units(narrowed(tiny_head("bert", CLASSIFY), *sizes), {"encoder.layer.0.heads": kept})
        (file,) = traced(model, CLASSIFY, tmp_path)
        return model, file

    return make


@pytest.mark.parametrize(("kept", "sizes"), [([0, 1, 2, 3], (6, 8)), ([0, 3], (6, 5))])
def test_fused_attention_has_each_layers_own_width(kept, sizes, graph, tmp_path):
    """4 heads of 6 are as wide as 3 of 8, as the config alone would have them."""
    model, file = graph(kept, *sizes)
    fused = tmp_path / "fused.onnx"
    found = fuse(file, fused, "bert", 4, 32, heads_by_width(model.config))
    assert found["MultiHeadAttention"] == 2
    proof_of(model, CLASSIFY, [file]).require([fused])
    nodes = [node for node in onnx.load(fused).graph.node if node.op_type == "MultiHeadAttention"]
    assert [onnx.helper.get_node_attr_value(node, "num_heads") for node in nodes] == [len(kept), 4]


def test_what_the_width_does_not_tell_stays_unfused(graph, tmp_path):
    model, file = graph([0, 1, 2], 8, 6)
    assert heads_by_width(model.config)[24] == 0
    assert fuse(file, tmp_path / "fused.onnx", "bert", 4, 32, heads_by_width(model.config)) == {}
    assert not (tmp_path / "fused.onnx").exists()
