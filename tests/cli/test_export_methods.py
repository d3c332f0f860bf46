"""`hfcompress export --quantize`: methods and their options as flags, what is told of them, and what is refused."""

import json
import shutil

import pytest

from hfcompress.errors import RequestError
from hfcompress.export.backends.base import find_backend
from hfcompress.pipeline import exporting
from tests.cli.support import hfcompress

try:
    find_backend("auto")
except RequestError:
    pytest.skip("no export backend is installed", allow_module_level=True)


@pytest.fixture(autouse=True)
def measured(monkeypatch):
    """Measurements, report and card have tests of their own; what would be measured is noted."""
    found = []

    def finish(folder, record, models, *_, **__):
        exporting.provenance.write_json(folder / "compression.json", record)
        found.append({name: str(path).rpartition("/")[2] for name, path in models.items() if name != "model"})
        return record

    monkeypatch.setattr(exporting, "finish", finish)
    return found


def export(model, tmp_path, *words):
    more = ("--fusion", "off", "--block-size", "16", "--calibration-rows", "16")
    return hfcompress("export", "--model", model, "--output-dir", tmp_path / "out", *more, *words)


def test_methods_and_their_options_are_flags(teacher_dir, csv, tmp_path, measured):
    words = ("--quantize", "smooth-quant,int4", "--dataset", csv, "--calibrator", "percentile", "--smoothing", "0.6")
    done = export(teacher_dir, tmp_path, *words, "--json")
    assert done.code == 0, done.err
    smooth, four = done.json["export"]["quantizations"]
    assert (smooth["calibrator"], smooth["smoothing"], four["block_size"]) == ("percentile", 0.6, 16)
    assert sorted(path.name for path in (tmp_path / "out" / "onnx").iterdir()) == [
        "model.onnx", "model_q4.onnx", "model_quantized.onnx",
    ]  # fmt: skip
    assert measured == [
        {"model ONNX": "model.onnx", "model smooth_quant": "model_quantized.onnx", "model int4": "model_q4.onnx"}
    ]


def test_the_bits_and_the_price_of_each_node_are_shown(teacher_dir, csv, tmp_path):
    done = export(teacher_dir, tmp_path, "--quantize", "mixed", "--max-size", "0.3", "--dataset", csv)
    assert done.code == 0, done.err
    assert "loss alone" in done.out
    assert "mixed: largest difference" in done.out
    assert "of the float file's bytes stay float" in done.out
    record = json.loads((tmp_path / "out" / "compression.json").read_text())["export"]["quantization"]
    assert all(one["node"] in done.out for one in record["bits"])


def test_a_dry_run_names_the_files_of_all_methods(teacher_dir, csv, tmp_path):
    done = export(teacher_dir, tmp_path, "--quantize", "int8,mixed,float16", "--max-drop", "0.1", "--dataset", csv,
                  "--dry-run", "--json")  # fmt: skip
    names = ["model.onnx", "model_quantized.onnx", "model_mixed.onnx", "model_fp16.onnx"]
    assert done.json["files"] == [f"onnx/{name}" for name in names]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--quantize", "static"),
            "quantize: static looks at rows of data, and none are named. Name some with --dataset.",
        ),
        (
            ("--quantize", "int4", "--algorithm", "gptq"),
            "quantize: int4 with algorithm gptq looks at rows of data, and none are named.",
        ),
        (("--quantize", "int3"), "there is no method 'int3'. Did you mean 'int8'?"),
        (("--quantize", "mixed"), "--max-drop: mixed needs to know what it has to keep, and nothing says so."),
        (("--max-size", "5"), "--max-size: goes with mixed. Add --quantize mixed."),
        (("--quantize", "int4", "--block-size", "7"), "7. Allowed: 16, 32, 64, 128, 256."),
    ],
)
def test_what_will_not_do_is_said_at_once(teacher_dir, tmp_path, words, said):
    done = export(teacher_dir, tmp_path, *words)
    assert done.code == 2
    assert said in done.err
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_another_library_has_quantized_is_refused(teacher_dir, tmp_path):
    model = shutil.copytree(teacher_dir, tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (model / "config.json").write_text(json.dumps(config))
    done = export(model, tmp_path)
    assert "is quantized already (bitsandbytes)" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
