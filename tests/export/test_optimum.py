"""The optimum backend: every family and task answers as in PyTorch, under Optimum's names, weights stored once."""

import pytest

pytest.importorskip("optimum.onnx")

import onnx
import onnxruntime
import optimum.onnxruntime
import torch
from optimum.pipelines import pipeline
from torch import nn

from hfcompress.errors import ExportError, RequestError
from hfcompress.export.backends import optimum as backend_module
from hfcompress.export.backends.optimum import OptimumBackend
from hfcompress.export.cases import answered_cases
from hfcompress.export.validation import Graphs, Proof
from tests.export.support import saved, task_of_head
from tests.tiny import HEADS, VISION, tiny_head, tiny_inputs, tiny_model

EVERY = [
    (family, head) for family, heads in HEADS.items() for head in heads if head or family not in VISION
]  # a plain vision model is of no task
NAMES = {
    "": {"last_hidden_state"},
    "ForQuestionAnswering": {"start_logits", "end_logits"},
}


def traced(model, head, folder, opset=None):
    return OptimumBackend().trace(model, task_of_head(head), folder, opset)


@pytest.mark.parametrize(("family", "head"), EVERY)
def test_every_family_and_task_answers_as_in_pytorch(family, head, tmp_path):
    model = tiny_head(family, head)
    files = traced(model, head, tmp_path)
    graphs = Graphs(files)
    proof = Proof(answered_cases(model, task_of_head(head), graphs.input_names), 1e-5)
    found = proof.require(files)
    assert found.agreement is None or found.agreement >= 0.9  # random models all but tie
    if head in ("ForCausalLM", "ForSeq2SeqLM"):
        assert "padded, in two steps" in {case.case for case in found.cases}


@pytest.mark.parametrize(("family", "head"), [("bert", head) for head in HEADS["bert"]])
def test_names_and_axes_are_optimums(family, head, tmp_path):
    (file,) = traced(tiny_head(family, head), head, tmp_path)
    graph = onnx.load(file).graph
    axes = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.input}
    assert axes == dict.fromkeys(["input_ids", "attention_mask", "token_type_ids"], ["batch_size", "sequence_length"])
    outputs = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.output}
    assert outputs.keys() == NAMES.get(head, {"logits"})
    assert all(shape[0] == "batch_size" for shape in outputs.values())
    assert all(
        isinstance(size, int) or size in ("batch_size", "sequence_length") for s in outputs.values() for size in s
    )


def test_the_model_is_left_as_it_was(tmp_path):
    model = tiny_head("gpt2", "ForCausalLM")
    before, forward = model.config.to_dict(), model.forward
    inputs = tiny_inputs(model)
    with torch.no_grad():
        expected = model(**inputs).logits
    traced(model, "ForCausalLM", tmp_path)
    assert model.config.to_dict() == before
    assert model.forward == forward
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, expected)


def test_unequal_widths_and_low_rank_layers_trace_like_any_other(tmp_path):
    model = tiny_head("bert", "ForSequenceClassification")
    first, second = model.bert.encoder.layer
    first.intermediate.dense, first.output.dense = nn.Linear(32, 24), nn.Linear(24, 32)
    second.intermediate.dense = nn.Sequential(nn.Linear(32, 8, bias=False), nn.Linear(8, 64))
    files = traced(model, "ForSequenceClassification", tmp_path)
    cases = answered_cases(model, task_of_head("ForSequenceClassification"), Graphs(files).input_names)
    Proof(cases, 1e-5).require(files)
    shapes = {tuple(tensor.dims) for tensor in onnx.load(files[0]).graph.initializer}
    assert {(32, 24), (24, 32), (32, 8), (8, 64)} <= shapes


@pytest.mark.parametrize(("family", "head"), [("bert", "ForMaskedLM"), ("gpt2", "ForCausalLM"), ("t5", "ForSeq2SeqLM")])
def test_tied_weights_are_stored_once(family, head, tmp_path):
    model = tiny_head(family, head)
    words = model.get_input_embeddings().weight.detach().numpy()
    for file in traced(model, head, tmp_path):
        stored = [onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(file).graph.initializer]
        copies = [one for one in stored if one.shape in ((64, 32), (32, 64)) and set(one.flat) == set(words.flat)]
        assert len(copies) == 1


def test_an_encoder_decoder_has_the_files_that_optimum_looks_for(tmp_path):
    model = tiny_head("bart", "ForSeq2SeqLM")
    traced(model, "ForSeq2SeqLM", tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["decoder_model_merged.onnx", "encoder_model.onnx"]


def test_an_operator_that_the_opset_lacks_is_named(tmp_path, capfd):
    model = tiny_head("bert", "ForSequenceClassification")
    lacking = r"the operator aten::scaled_dot_product_attention, which opset 13 does not have\. Give another --opset"
    with pytest.raises(ExportError, match=lacking):
        traced(model, "ForSequenceClassification", tmp_path, opset=13)
    assert capfd.readouterr().out == ""


def test_an_opset_beyond_the_tracers_is_refused(tmp_path):
    with pytest.raises(RequestError, match="opset: is 21; torch's tracer writes up to 20"):
        traced(tiny_head("bert"), "", tmp_path, opset=21)


def test_a_model_that_cannot_be_traced_is_refused_in_a_sentence(tmp_path, monkeypatch):
    model = tiny_head("bert", "ForSequenceClassification")
    monkeypatch.setattr(model.classifier, "forward", lambda hidden: 1 / 0)
    with pytest.raises(ExportError, match="BertForSequenceClassification cannot be traced by Optimum"):
        traced(model, "ForSequenceClassification", tmp_path)


def test_without_optimum_the_extra_is_named(monkeypatch):
    def missing(name):
        raise backend_module.PackageNotFoundError(name)

    monkeypatch.setattr(backend_module, "version", missing)
    with pytest.raises(RequestError, match=r"pip install 'hfcompress\[optimum\]'; it brings transformers 4.57"):
        OptimumBackend().check()


ORT_CLASSES = [
    ("bert", "ForSequenceClassification"),
    ("bert", "ForTokenClassification"),
    ("bert", "ForQuestionAnswering"),
    ("bert", "ForMaskedLM"),
    ("bert", ""),
    ("gpt2", "ForCausalLM"),
    ("t5", "ForSeq2SeqLM"),
    ("vit", "ForImageClassification"),
]


@pytest.mark.parametrize(("family", "head"), ORT_CLASSES)
def test_optimum_loads_the_files(family, head, tmp_path, tokenizer):
    model = tiny_head(family, head)
    task = task_of_head(head)
    saved(model, tokenizer, tmp_path)
    (tmp_path / "onnx").mkdir()
    files = traced(model, head, tmp_path / "onnx")
    names = {"file_name": files[0].name} if len(files) == 1 else {}
    loaded = getattr(optimum.onnxruntime, task.ort_model).from_pretrained(tmp_path, subfolder="onnx", **names)
    inputs = tiny_inputs(model)
    found = loaded(**inputs)
    with torch.no_grad():
        expected = model(**inputs)
    for name in NAMES.get(head, {"logits"}):
        assert torch.allclose(found[name], expected[name], atol=1e-4)
    if task.writes or head == "ForCausalLM":
        ids = inputs["input_ids"][:1]
        settings = {"max_new_tokens": 5, "do_sample": False}
        assert torch.equal(loaded.generate(ids, **settings), model.generate(ids, **settings))


def test_a_pipeline_runs_on_the_file(tmp_path, tokenizer):
    saved(tiny_model("bert"), tokenizer, tmp_path)
    (tmp_path / "onnx").mkdir()
    traced(tiny_model("bert"), "ForSequenceClassification", tmp_path / "onnx")
    classify = optimum.onnxruntime.ORTModelForSequenceClassification.from_pretrained(
        tmp_path, subfolder="onnx", file_name="model.onnx"
    )
    answer = pipeline("text-classification", model=classify, tokenizer=tokenizer, accelerator="ort")("a fine film")
    assert answer[0]["label"] in ("LABEL_0", "LABEL_1")


def test_a_session_opens_what_was_written_with_plain_onnx_runtime(tmp_path):
    (file,) = traced(tiny_head("resnet", "ForImageClassification"), "ForImageClassification", tmp_path)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch_size", "num_channels", "height", "width"]
    onnx.checker.check_model(file)
