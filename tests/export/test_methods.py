"""Every method of quantization from a model to its files, under whichever backend is installed."""

import pytest

pytest.importorskip("onnxruntime")

import onnx
from torch import nn

from hfcompress.config import parse
from hfcompress.data import DataConfig, load_validation
from hfcompress.errors import DataError, ExportError, RequestError
from hfcompress.export.backends.base import find_backend
from hfcompress.export.config import METHODS, SUFFIXES, ExportConfig
from hfcompress.export.feeds import calibration_feeds
from hfcompress.export.methods import quantization_methods
from hfcompress.export.run import export_onnx
from hfcompress.modeling.groups import groups_of
from hfcompress.modeling.surgery import keep_units
from hfcompress.tasks import find_task
from tests.tiny import tiny_head, tiny_model

try:
    find_backend("auto")
except RequestError:
    pytest.skip("no export backend is installed", allow_module_level=True)

CLASSIFY = find_task("text-classification")
WRITE = find_task("text2text-generation")


@pytest.fixture
def rows(csv):
    return load_validation(DataConfig(dataset=str(csv)), ("negative", "positive"), 0, CLASSIFY)


def export(model, folder, tokenizer=None, data=None, task=CLASSIFY, say=lambda text: None, **options):
    config = parse(ExportConfig, {"fusion": "off", "calibration_rows": 16, "block_size": 16, **options})
    return export_onnx(model, tokenizer, task, folder, config, data, say=say, progress=False)


def wide():
    return tiny_model("bert", width=64, vocab_size=1000)


def names(folder):
    return sorted(path.name for path in (folder / "onnx").iterdir())


def kinds(file):
    return [node.op_type for node in onnx.load(str(file)).graph.node]


def test_several_methods_write_a_file_each_under_the_names_of_transformers_js(tmp_path, tokenizer, rows):
    asked = "int8,static,int4,int8_weights,float16"
    record = export(wide(), tmp_path, tokenizer, rows, quantize=asked)
    suffixes = ("", "_fp16", "_int8", "_q4", "_quantized", "_static")
    assert names(tmp_path) == [f"model{suffix}.onnx" for suffix in suffixes]
    made = {one["asked"]: one for one in record["quantizations"]}
    assert ",".join(made) == asked
    assert record["quantization"] == made["int8"]
    for name, one in made.items():
        worst = 0.02 if name == "float16" else 0.6
        assert one["validation"]["largest_relative_difference"] < worst, name
    for name in ("int8", "static", "int4", "int8_weights"):
        assert made[name]["nodes"]["MatMul"] == made["int8"]["nodes"]["MatMul"] >= 12
    sizes = {name: facts["bytes"] for name, facts in record["files"].items()}
    assert sizes["onnx/model_q4.onnx"] < sizes["onnx/model_quantized.onnx"] < sizes["onnx/model_fp16.onnx"]
    assert {"MatMulNBits", "GatherBlockQuantized"} <= set(kinds(tmp_path / "onnx" / "model_q4.onnx"))
    assert all(0 < one["share"] < 0.05 for one in made["int8"]["float"])


@pytest.mark.parametrize("name", ["static", "smooth_quant"])
def test_static_alone_bears_the_main_name(tmp_path, tokenizer, rows, name):
    record = export(wide(), tmp_path, tokenizer, rows, quantize=name, calibrator="minmax")
    assert names(tmp_path) == ["model.onnx", "model_quantized.onnx"]
    assert record["quantization"]["calibrator"] == "minmax"
    assert "QuantizeLinear" in kinds(tmp_path / "onnx" / "model_quantized.onnx")


@pytest.mark.parametrize(("name", "options"), [("static", {}), ("smooth_quant", {}), ("int4", {"algorithm": "gptq"})])
def test_without_data_what_needs_them_is_refused(tmp_path, name, options):
    with pytest.raises(RequestError, match="is measured on data, and there is none"):
        export(wide(), tmp_path, quantize=name, **options)
    assert list(tmp_path.iterdir()) == []


def test_gptq_calibrates_on_rows(tmp_path, tokenizer, rows):
    record = export(wide(), tmp_path, tokenizer, rows, quantize="int4", algorithm="gptq")
    assert record["quantization"]["algorithm"] == "gptq"


def test_an_encoder_decoder_by_every_method_that_needs_no_rows(tmp_path):
    model = tiny_head("t5", "ForSeq2SeqLM", vocab_size=2000)
    record = export(model, tmp_path, task=WRITE, quantize="int4,int8_weights,float16")
    assert len(record["files"]) == 8
    for one in record["quantizations"]:
        assert "padded, in two steps" in [case["case"] for case in one["validation"]["cases"]]


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_int8_where_attention_to_the_encoder_has_lost_heads(family, tmp_path):
    """The decoder is given no row of the encoder from the second step on, and its narrow layers none."""
    pytest.importorskip("transformers.exporters")  # Optimum gives each layer's cache as many heads as the config says
    model = tiny_head(family, "ForSeq2SeqLM", vocab_size=2000)
    groups = [group for group in groups_of(model) if "cross" in group.name]
    keep_units(model, {group.name: [0] for group in groups})
    record = export(model, tmp_path, task=WRITE)
    assert groups
    assert record["quantization"]["validation"]["largest_relative_difference"] < 0.2


@pytest.fixture
def summaries(tmp_path_factory):
    path = tmp_path_factory.mktemp("summaries") / "rows.csv"
    path.write_text("text,summary\n" + "a good film,good\nthe bad film was long,bad\n" * 6)
    return load_validation(DataConfig(dataset=str(path), text_column="text", label_column="summary"), (), 0, WRITE)


def test_a_decoder_is_calibrated_on_what_it_should_write(tmp_path, tokenizer, summaries):
    model = tiny_head("t5", "ForSeq2SeqLM", vocab_size=2000)
    record = export(model, tmp_path, tokenizer, summaries, WRITE, quantize="static", calibrator="minmax")
    assert "padded, in two steps" in [case["case"] for case in record["quantization"]["validation"]["cases"]]
    assert "QuantizeLinear" in kinds(tmp_path / "onnx" / "encoder_model_quantized.onnx")
    model.config.save_pretrained(tmp_path)
    files = [tmp_path / "onnx" / name for name in ("encoder_model.onnx", "decoder_model_merged.onnx")]
    feeds = calibration_feeds(files, WRITE, tokenizer, summaries.validation, 32)
    assert [len(batches) for batches in feeds.values()] == [2, 2]
    assert {"encoder_hidden_states", "input_ids"} <= set(feeds["decoder_model_merged.onnx"][0])
    with pytest.raises(DataError, match="no rows to calibrate on"):
        calibration_feeds(files, WRITE, tokenizer, summaries.validation.select([]), 32)


def test_convolutions_are_quantized_or_it_is_said_why_not(tmp_path):
    said = []
    task = find_task("image-classification")
    model = tiny_head("resnet", "ForImageClassification")
    record = export(model, tmp_path, task=task, quantize="int8_weights,float16", say=said.append)
    for one in record["quantizations"]:
        assert one["method"] == "none" or one["validation"]["largest_relative_difference"] < 0.1


def test_batch_norms_are_a_part_of_the_convolutions_before_them(tmp_path):
    (tmp_path / "off").mkdir()
    for folder, fusion in ((tmp_path, "auto"), (tmp_path / "off", "off")):
        model = tiny_head("resnet", "ForImageClassification")
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
        record = export(model, folder, task=find_task("image-classification"), quantize="none", fusion=fusion)
        assert record["validation"]["largest_relative_difference"] < 1e-4
        left = kinds(folder / "onnx" / "model.onnx").count("BatchNormalization")
        assert (left == 0) is (folder == tmp_path)
        assert (record["fusion"].get("batch_norms", 0) > 0) is (folder == tmp_path)


def test_mixed_under_a_size_lists_the_bits_and_the_price_of_every_node(tmp_path, tokenizer, rows):
    record = export(wide(), tmp_path, tokenizer, rows, quantize="mixed", max_size=0.2)["quantization"]
    assert names(tmp_path) == ["model.onnx", "model_quantized.onnx"]
    assert {one["bits"] for one in record["bits"]} <= {4, 8, 32}
    assert sum(one["bytes"] for one in record["bits"]) <= 0.2 * 4 * (1000 * 64 + 12 * 64 * 64 * 4)
    assert all(one["loss"] >= 0 for one in record["bits"])
    assert not list(tmp_path.rglob("*trial*"))


def test_mixed_under_a_drop_keeps_the_fewest_bits_and_confirms_them(tmp_path, tokenizer, rows):
    record = export(wide(), tmp_path, tokenizer, rows, quantize="int8,mixed", max_drop=0.5)
    assert names(tmp_path) == ["model.onnx", "model_mixed.onnx", "model_quantized.onnx"]
    mixed = record["quantizations"][1]
    assert {one["bits"] for one in mixed["bits"]} == {4}  # a drop of half the rows is never needed
    assert max(mixed["drop_selected"], mixed["drop_confirmed"]) <= 0.5


def test_mixed_under_a_time_asks_the_clock(tmp_path, tokenizer, rows, monkeypatch):
    monkeypatch.setattr("hfcompress.export.mixing.Mixing._time", lambda self, bits: 10.0 - (8 in bits.values()) * 4.0)
    record = export(wide(), tmp_path, tokenizer, rows, quantize="mixed", target_latency=0.8)["quantization"]
    assert record["latency_ratio"] == pytest.approx(0.6)
    assert {8, 32} == {one["bits"] for one in record["bits"]}
    with pytest.raises(ExportError, match="the fastest that was found takes 0.60"):
        export(wide(), tmp_path / "onnx", tokenizer, rows, quantize="mixed", target_latency=0.5)


def test_a_size_that_no_choice_reaches_is_refused(tmp_path, tokenizer, rows):
    with pytest.raises(
        RequestError, match=r"^max_size: 0.05 cannot be met. The smallest possible model takes 0.\d+: give that or"
    ):
        export(wide(), tmp_path, tokenizer, rows, quantize="mixed", max_size=0.05)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"quantize": "int9"}, "no method 'int9'. Did you mean 'int8'"),
        ({"quantize": "int8,none"}, "'none' goes with nothing else"),
        ({"quantize": "int8,int8"}, "more than once"),
        ({"quantize": "mixed"}, "Give one of max_drop, max_size, target_latency"),
        ({"quantize": "mixed", "max_size": 0.2, "target_latency": 0.5}, "not both"),
        ({"max_size": 0.2}, "goes with mixed"),
        ({"quantize": "none", "max_drop": 0.1}, "quantize is 'none'"),
        ({"quantize": "int4", "block_size": 20}, "block_size"),
        ({"quantize": "int4", "embedding_bits": 3}, "embedding_bits"),
        ({"quantize": "static", "percentile": 101}, "percentile"),
        ({"quantize": "static", "calibration_rows": 0}, "calibration_rows"),
    ],
)
def test_options_that_will_not_do(options, said):
    with pytest.raises(RequestError, match=said):
        parse(ExportConfig, options)


def test_names_of_methods_and_of_their_files():
    assert ExportConfig(quantize="smooth-quant, int4").methods == ("smooth_quant", "int4")
    assert ExportConfig(quantize="static,mixed").suffixes == {"static": "quantized", "mixed": "mixed"}
    assert set(METHODS) == set(SUFFIXES) == set(quantization_methods())
    assert all(method.help.endswith(".") for method in quantization_methods().values())
