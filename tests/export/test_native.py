"""The native backend: every family and task answers as in PyTorch, under Optimum's names, weights stored once."""

import pytest

pytest.importorskip("transformers.exporters")
pytest.importorskip("onnxscript")

import onnx
import torch
from torch import nn

from hfcompress.errors import ExportError, RequestError
from hfcompress.export.backends import native as backend_module
from hfcompress.export.backends import native_graphs
from hfcompress.export.backends.native import NativeBackend
from hfcompress.export.cases import answered_cases
from hfcompress.export.validation import Graphs, Proof
from hfcompress.modeling.onnx_model import load_onnx
from tests.export.support import saved, task_of_head
from tests.tiny import HEADS, VISION, tiny_head, tiny_inputs, tiny_tokenizer

EVERY = [(family, head) for family, heads in HEADS.items() for head in heads if head or family not in VISION]
SOME = [
    ("bert", "ForSequenceClassification"),
    ("mpnet", "ForQuestionAnswering"),
    ("qwen3", "ForCausalLM"),
    ("resnet", "ForImageClassification"),
]
"""One of each kind; the others are slow: tracing a tiny model takes five seconds of a processor."""


def traced(model, head, folder, opset=None):
    return NativeBackend().trace(model, task_of_head(head), folder, opset)


def axes(values):
    return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}


def proved(model, head, files):
    cases = answered_cases(model, task_of_head(head), Graphs(files).input_names)
    return Proof(cases, 1e-5).require(files)


@pytest.mark.parametrize(
    ("family", "head"),
    [pytest.param(*pair, marks=() if pair in SOME else pytest.mark.slow) for pair in EVERY],
)
def test_every_family_and_task_answers_as_in_pytorch(family, head, tmp_path):
    model = tiny_head(family, head)
    files = traced(model, head, tmp_path)
    found = proved(model, head, files)
    if head in ("ForCausalLM", "ForSeq2SeqLM"):
        assert "padded, in two steps" in {case.case for case in found.cases}
    for file in files:
        onnx.checker.check_model(onnx.load(file), full_check=True)


def test_names_and_axes_are_optimums_and_nothing_tells_where_it_was_made(tmp_path):
    model = tiny_head("bert", "ForMaskedLM")
    (file,) = traced(model, "ForMaskedLM", tmp_path)
    graph = onnx.load(file)
    text = ["batch_size", "sequence_length"]
    names = ["input_ids", "attention_mask", "token_type_ids"]
    assert axes(graph.graph.input) == dict.fromkeys(names, text)
    assert axes(graph.graph.output) == {"logits": [*text, 64]}
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", 18)]
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    content = file.read_bytes()
    assert b".py" not in content
    assert b"site-packages" not in content
    node_names = [node.name for node in graph.graph.node]
    assert "/bert.encoder.layer.0.attention.self.query/MatMul" in node_names
    assert len(set(node_names)) == len(node_names)
    # The embeddings are also the last matrix: stored once.
    stored = [tensor for tensor in graph.graph.initializer if sorted(tensor.dims) == [32, 64]]
    linear = 2 * 2  # up and down of two layers have the same shape here
    assert len(stored) == 1 + linear


def test_a_row_that_is_all_padding_is_answered_as_in_pytorch(tmp_path):
    model = tiny_head("bert", "ForSequenceClassification")
    (file,) = traced(model, "ForSequenceClassification", tmp_path)
    saved(model, tiny_tokenizer(), tmp_path)
    inputs = tiny_inputs(model)
    inputs["attention_mask"][1] = 0
    with torch.no_grad():
        expected = model(**inputs).logits
    torch.testing.assert_close(load_onnx(file)(**inputs).logits, expected, atol=1e-6, rtol=0)


def test_a_language_model_has_a_cache_under_optimums_names(tmp_path):
    (file,) = traced(tiny_head("gpt2", "ForCausalLM"), "ForCausalLM", tmp_path)
    graph = onnx.load(file).graph
    text, past = ["batch_size", "sequence_length"], ["batch_size", 4, "past_sequence_length", 8]
    whole = "past_sequence_length + sequence_length"
    names = [f"{layer}.{kind}" for layer in range(2) for kind in ("key", "value")]
    expected = {"input_ids": text, "attention_mask": ["batch_size", whole], "position_ids": text}
    assert axes(graph.input) == expected | {f"past_key_values.{name}": past for name in names}
    present = {f"present.{name}": ["batch_size", 4, whole, 8] for name in names}
    assert axes(graph.output) == {"logits": [*text, 64], **present}


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bart", "t5"])
def test_an_encoder_decoder_writes_as_in_pytorch(family, tmp_path):
    model = tiny_head(family, "ForSeq2SeqLM")
    (tmp_path / "onnx").mkdir()
    files = traced(model, "ForSeq2SeqLM", tmp_path / "onnx")
    assert [file.name for file in files] == ["encoder_model.onnx", "decoder_model_merged.onnx"]
    names = [node.name for node in onnx.load(files[1]).graph.input if node.name.startswith("past")]
    parts = [f"{part}.{kind}" for part in ("decoder", "encoder") for kind in ("key", "value")]
    order = [f"past_key_values.{layer}.{part}" for layer in (0, 1) for part in parts]
    assert names == order  # Optimum's runtime counts on this order
    saved(model, tiny_tokenizer(), tmp_path)
    inputs = {name: value for name, value in tiny_inputs(model).items() if name != "decoder_input_ids"}
    expected = model.generate(**inputs, max_new_tokens=8, num_beams=1, do_sample=False)
    assert torch.equal(load_onnx(files[1]).generate(**inputs, max_new_tokens=8), expected)


def test_unequal_widths_and_low_rank_layers_trace_like_any_other_and_the_model_is_left_as_it_was(tmp_path):
    model = tiny_head("bert", "ForSequenceClassification")
    first, second = model.bert.encoder.layer
    first.intermediate.dense, first.output.dense = nn.Linear(32, 24), nn.Linear(24, 32)
    second.intermediate.dense = nn.Sequential(nn.Linear(32, 8, bias=False), nn.Linear(8, 64))
    before, forward = model.config.to_dict(), model.forward
    files = traced(model, "ForSequenceClassification", tmp_path)
    proved(model, "ForSequenceClassification", files)
    assert model.config.to_dict() == before
    assert model.config._attn_implementation == "sdpa"
    assert model.forward == forward
    shapes = {tuple(tensor.dims) for tensor in onnx.load(files[0]).graph.initializer}
    assert (32, 24) in shapes


def test_an_operator_that_onnx_lacks_is_named(tmp_path):
    class Odd(nn.Module):
        def forward(self, values):
            return torch.special.bessel_j0(values)

    model = tiny_head("bert", "ForSequenceClassification")
    model.dropout = Odd()
    with pytest.raises(ExportError, match="cannot be traced for text-classification.*bessel_j0.*--backend optimum"):
        traced(model, "ForSequenceClassification", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_opset_that_it_does_not_write_is_refused(tmp_path):
    with pytest.raises(RequestError, match="opset: the native backend writes 18 to 23, got 11"):
        traced(tiny_head("bert", "ForSequenceClassification"), "ForSequenceClassification", tmp_path, opset=11)


def test_what_is_missing_is_said_with_the_extra_that_brings_it(monkeypatch):
    monkeypatch.setattr(backend_module, "_is_installed", lambda name: name != "onnxscript")
    with pytest.raises(RequestError, match=r"needs onnxscript, which is not installed.*hfcompress\[onnx\]"):
        NativeBackend().check()


def test_sample_sizes_differ_so_that_no_axis_is_taken_for_another():
    sizes = [native_graphs._BATCH, native_graphs._LENGTH, native_graphs._PAST_LENGTH, native_graphs._SOURCE_LENGTH]
    sizes += [native_graphs._CACHED, native_graphs._PAST_LENGTH + native_graphs._LENGTH]
    assert len(set(sizes)) == len(sizes)
    assert min(sizes) > 1
