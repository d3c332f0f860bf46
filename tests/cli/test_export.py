"""`hfcompress export`: the folder that comes out, the record that is kept, and what is refused."""

import json
import shutil

import pytest

pytest.importorskip("optimum.onnx")

from safetensors.torch import load_file, save_file

from hfcompress.pipeline import exporting
from tests.cli.support import hfcompress, tree
from tests.tiny import tiny_model

FAST = ("--quantize", "none", "--fusion", "off", "--quiet")


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    """Measurements, report and card have tests of their own."""

    def finish(folder, record, *_, **__):
        exporting.provenance.write_json(folder / "compression.json", record)
        return record

    monkeypatch.setattr(exporting, "finish", finish)


def test_a_stock_folder_becomes_a_checkpoint_with_onnx_files(teacher_dir, tmp_path):
    out = tmp_path / "out"
    done = hfcompress("export", "--model", teacher_dir, "--output-dir", out, *FAST, "--json")
    assert done.code == 0, done.err
    assert (out / "onnx" / "model.onnx").is_file()
    assert (out / "tokenizer.json").is_file()
    assert (out / "model.safetensors").read_bytes() == (teacher_dir / "model.safetensors").read_bytes()
    record = json.loads((out / "compression.json").read_text())
    assert record["export"]["validation"]["largest_relative_difference"] < 1e-4
    assert (record["task"], record["steps"]) == ("text-classification", [])
    assert record["source"]["model"] == teacher_dir.name
    assert str(tmp_path) not in (out / "compression.json").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert done.json["export"]["files"].keys() == {"onnx/model.onnx"}


def test_a_record_beside_the_model_is_kept_and_extended(distilled, tmp_path):
    _, folder = distilled
    model = shutil.copytree(folder, tmp_path / "model")
    before = json.loads((model / "compression.json").read_text())
    done = hfcompress("export", "--model", model, "--output-dir", model, "--overwrite", *FAST)
    assert done.code == 0, done.err
    after = json.loads((model / "compression.json").read_text())
    assert {name: after[name] for name in before if name != "results"} == {
        name: before[name] for name in before if name != "results"
    }
    assert after["export"]["backend"] == "optimum"
    assert (model / "model.safetensors").is_file()


def test_a_dry_run_says_what_would_be_made(teacher_dir, tmp_path):
    done = hfcompress("export", "--model", teacher_dir, "--output-dir", tmp_path / "out", "--dry-run", "--json")
    assert done.json["files"] == ["onnx/model.onnx", "onnx/model_quantized.onnx"]
    assert done.json["backend"] == "optimum"
    assert list(tmp_path.iterdir()) == []


def refused(model, tmp_path, *more):
    """Export into a new folder; return the faults, after a look that nothing was left."""
    out = tmp_path / "out"
    before = tree(tmp_path)
    done = hfcompress("export", "--model", model, "--output-dir", out, *FAST, *more)
    assert tree(tmp_path) == before
    assert done.out == ""
    return done


@pytest.fixture
def model(teacher_dir, tmp_path):
    return shutil.copytree(teacher_dir, tmp_path / "model")


def truncated(model):
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])


def reshaped(model):
    weights = load_file(model / "model.safetensors")
    name = "bert.encoder.layer.0.output.dense.weight"
    save_file({**weights, name: weights[name][:, :8].contiguous()}, model / "model.safetensors", {"format": "pt"})


def pickled(model):
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


BROKEN = [
    (lambda model: (model / "config.json").unlink(), "is not a model folder: it has no config.json"),
    (lambda model: (model / "model.safetensors").unlink(), "its weights cannot be used"),
    (truncated, "its weights cannot be used"),
    (reshaped, "its weights do not fit its config"),
    (pickled, "Weights are read from safetensors files only"),
    (lambda model: (model / "tokenizer.json").unlink(), "tokenizer"),
]


@pytest.mark.parametrize(
    ("breaks", "message"), BROKEN, ids=["none", "missing", "truncated", "shape", "pickle", "words"]
)
def test_a_broken_model_is_refused_and_nothing_is_left(model, tmp_path, breaks, message):
    breaks(model)
    done = refused(model, tmp_path)
    assert done.code == 2
    assert message in done.err


def test_a_head_that_was_never_trained_is_refused(tmp_path, tokenizer):
    tiny_model("bert").base_model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    done = refused(tmp_path / "model", tmp_path)
    assert "has no trained head for text-classification: there is nothing to export" in done.err


def test_a_difference_beyond_the_tolerance_fails_with_1(model, tmp_path):
    done = refused(model, tmp_path, "--tolerance", "1e-12")
    assert done.code == 1
    assert "does not answer as the model does" in done.err


def test_an_operator_that_the_opset_lacks(model, tmp_path):
    done = refused(model, tmp_path, "--opset", "13")
    assert done.code == 1
    assert "aten::scaled_dot_product_attention, which opset 13 does not have" in done.err


def test_when_it_is_stopped_nothing_is_left(model, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting, "export_onnx", stop)
    done = refused(model, tmp_path)
    assert (done.code, done.faults) == (130, ["Stopped; nothing was written."])


def test_the_model_is_not_replaced_by_what_is_made_of_it(model, tmp_path):
    assert "exists already" in refused(model, tmp_path, "--output-dir", model).err
    stock = refused(model, tmp_path, "--output-dir", model, "--overwrite")
    assert "hfcompress did not make it" in stock.err
    inside = shutil.copytree(model, model / "steps" / "1")
    (model / "compression.json").write_text("{}")
    done = refused(inside, tmp_path, "--output-dir", model, "--overwrite")
    assert "holds the model that is exported (1), which would go with it" in done.err


def test_max_drop_needs_data(model, tmp_path):
    done = hfcompress("export", "--model", model, "--output-dir", tmp_path / "out", "--max-drop", "0.01")
    assert done.faults == ["max_drop: is measured on data. Name some with --dataset."]
