"""An export from beginning to end on tiny models: all files or none, each proved, int8 as its own file."""

import pytest

pytest.importorskip("optimum.onnx")

import onnx

from hfcompress.data import DataConfig, load_validation
from hfcompress.errors import ExportError, RequestError
from hfcompress.export.backends.base import find_backend
from hfcompress.export.config import ExportConfig
from hfcompress.export.run import export_onnx
from hfcompress.export.variants import Variant, fastest_variant
from hfcompress.tasks import find_task
from tests.tiny import tiny_head, tiny_model

CLASSIFY = find_task("text-classification")


def export(model, folder, task=CLASSIFY, **options):
    return export_onnx(model, None, task, folder, ExportConfig(backend="optimum", **options), progress=False)


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_both_files_appear_and_the_record_says_how_near_they_are(tmp_path):
    record = export(tiny_model("bert", width=128, vocab_size=2000), tmp_path)
    assert names(tmp_path) == ["onnx", "onnx/model.onnx", "onnx/model_quantized.onnx"]
    assert (record["backend"], record["opset"]) == ("optimum", 18)
    assert record["validation"]["largest_relative_difference"] < 1e-5
    assert [case["case"] for case in record["validation"]["cases"]][:2] == ["padded", "single text"]
    assert record["quantization"]["nodes"]["MatMul"] == 12
    assert record["quantization"]["kept_float"] == []
    sizes = {name: facts["bytes"] for name, facts in record["files"].items()}
    assert sizes["onnx/model_quantized.onnx"] < 0.4 * sizes["onnx/model.onnx"]
    assert sizes == {name: (tmp_path / name).stat().st_size for name in sizes}


def test_an_encoder_decoder_has_two_files_of_each_precision(tmp_path):
    record = export(tiny_head("t5", "ForSeq2SeqLM", vocab_size=2000), tmp_path, find_task("text2text-generation"))
    assert sorted(record["files"]) == [
        "onnx/decoder_model_merged.onnx",
        "onnx/decoder_model_merged_quantized.onnx",
        "onnx/encoder_model.onnx",
        "onnx/encoder_model_quantized.onnx",
    ]
    assert "padded, in two steps" in [case["case"] for case in record["quantization"]["validation"]["cases"]]


def test_a_model_that_eight_bits_do_not_make_smaller_gets_no_such_file(tmp_path):
    said = []
    record = export_onnx(
        tiny_head("resnet", "ForImageClassification"), None, find_task("image-classification"), tmp_path,
        ExportConfig(backend="optimum"), say=said.append,
    )  # fmt: skip
    if record["quantization"]["method"] == "none":
        assert any(text.startswith("note: no 8-bit file") for text in said)
        assert names(tmp_path) == ["onnx", "onnx/model.onnx"]
    else:
        assert names(tmp_path) == ["onnx", "onnx/model.onnx", "onnx/model_quantized.onnx"]


def test_an_opset_and_float_alone(tmp_path):
    assert export(tiny_model("bert"), tmp_path, quantize="none", opset=17)["opset"] == 17
    assert names(tmp_path) == ["onnx", "onnx/model.onnx"]
    opsets = onnx.load(tmp_path / "onnx" / "model.onnx").opset_import
    assert {opset.domain: opset.version for opset in opsets}[""] == 17


def test_beyond_the_tolerance_nothing_is_left(tmp_path):
    with pytest.raises(ExportError, match="does not answer as the model does"):
        export(tiny_model("bert"), tmp_path, tolerance=1e-12)
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_when_it_is_stopped_nothing_is_left_and_older_files_stay(tmp_path, monkeypatch, error):
    export(tiny_model("bert"), tmp_path, quantize="none")
    before = (tmp_path / "onnx" / "model.onnx").read_bytes()

    def stop(*_):
        raise error

    monkeypatch.setattr("hfcompress.export.run.write_quantized", stop)
    with pytest.raises(error):
        export(tiny_model("bert", seed=1), tmp_path)
    assert names(tmp_path) == ["onnx", "onnx/model.onnx"]
    assert (tmp_path / "onnx" / "model.onnx").read_bytes() == before


def test_the_fastest_variant_is_chosen_and_the_first_when_none_is_faster(tmp_path, monkeypatch):
    for name in ("small", "large"):
        (tmp_path / name).mkdir()
    config = tiny_model("bert").config
    export(tiny_model("bert", layers=1), tmp_path / "small", quantize="none")
    export(tiny_model("bert", layers=8), tmp_path / "large", quantize="none")
    small, large = (Variant(name, [tmp_path / name / "onnx" / "model.onnx"]) for name in ("small", "large"))
    chosen, times = fastest_variant([large, small], config, CLASSIFY)
    assert chosen is small
    assert times["small"] < times["large"]
    again = Variant("again", small.files)
    monkeypatch.setattr("hfcompress.export.variants._MARGIN", 0.1)
    assert fastest_variant([small, again], config, CLASSIFY)[0] is small


def test_a_backend_that_is_not_there():
    with pytest.raises(RequestError, match="no export backend 'optimun'. Did you mean 'optimum'"):
        find_backend("optimun")


def test_auto_takes_what_is_installed_and_names_every_extra_otherwise(monkeypatch):
    assert find_backend("auto").name == "optimum"

    def missing(self):
        raise RequestError(f"{self.name} is not installed")

    for module, kind in (("optimum", "OptimumBackend"), ("native", "NativeBackend")):
        monkeypatch.setattr(f"hfcompress.export.backends.{module}.{kind}.check", missing)
    with pytest.raises(RequestError) as caught:
        find_backend("auto")
    assert [str(fault) for fault in caught.value.faults] == ["optimum is not installed", "native is not installed"]


def test_options_that_contradict_each_other_are_refused():
    with pytest.raises(RequestError, match="quantize is 'none'"):
        ExportConfig(quantize="none", max_drop=0.01).check()


def test_max_drop_leaves_the_fewest_nodes_in_float_and_confirms_them_on_other_rows(tmp_path, csv, tokenizer):
    data = load_validation(DataConfig(dataset=str(csv)), ("negative", "positive"), 0, CLASSIFY)
    model = tiny_model("bert", width=64, vocab_size=1000)
    config = ExportConfig(backend="optimum", fusion="off", max_drop=0.5)
    record = export_onnx(model, tokenizer, CLASSIFY, tmp_path, config, data, progress=False)["quantization"]
    assert record["kept_float"] == []  # a drop of half the rows is never needed
    assert record["max_drop"] == 0.5
    assert max(record["drop_selected"], record["drop_confirmed"]) <= 0.5
    with pytest.raises(RequestError, match="is measured on data, and there is none"):
        export(model, tmp_path, max_drop=0.5)


def test_data_are_one_more_case(tmp_path, csv, tokenizer):
    data = load_validation(DataConfig(dataset=str(csv)), ("negative", "positive"), 0, CLASSIFY)
    config = ExportConfig(backend="optimum", quantize="none")
    record = export_onnx(tiny_model("bert"), tokenizer, CLASSIFY, tmp_path, config, data, progress=False)
    assert [case["case"] for case in record["validation"]["cases"]][-1] == "data"
