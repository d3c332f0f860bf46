"""What a finished folder gets: record, measurements, report and card; and which of its files are measured."""

import json

import pytest

from hfcompress.measure.bench import BenchSettings
from hfcompress.measure.latency import Effort
from hfcompress.pipeline.finishing import finish, onnx_models
from hfcompress.tasks import find_task


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ([], {}),
        (["model.onnx"], {"small ONNX": "model.onnx"}),
        (
            ["model.onnx", "model_quantized.onnx"],
            {"small ONNX": "model.onnx", "small int8": "model_quantized.onnx"},
        ),
        (
            ["encoder_model.onnx", "decoder_model_merged.onnx", "decoder_model_merged_quantized.onnx"],
            {"small ONNX": "decoder_model_merged.onnx", "small int8": "decoder_model_merged_quantized.onnx"},
        ),
    ],
)
def test_the_onnx_files_that_can_be_run(files, found, tmp_path):
    (tmp_path / "onnx").mkdir()
    for name in files:
        (tmp_path / "onnx" / name).touch()
    assert {name: place.name for name, place in onnx_models(tmp_path, "small").items()} == found


QUICK = BenchSettings((1,), (16,), (1,), Effort(rounds=2, warm_up=1), memory=False)


@pytest.fixture
def folder(teacher_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("hfcompress.pipeline.finishing.SETTINGS", QUICK)
    for file in teacher_dir.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_every_file_is_written_and_says_the_same(folder):
    task = find_task("text-classification")
    record = {"task": task.name, "source": {"model": "large"}, "seed": 1, "steps": [], "versions": {}, "hardware": {}}
    finish(folder, record, {"model": folder}, task, None, name="small", progress=False)
    measured = json.loads((folder / "measurements.json").read_text())
    written = json.loads((folder / "compression.json").read_text())
    (row,), (kept,) = measured["models"], written["results"]
    assert row["quality"] is None
    assert len(row["latencies"][0]["times_ms"]) == 2
    assert "times_ms" not in kept["latencies"][0]
    assert kept["latency"] == row["latency"]
    assert "# small" in (folder / "README.md").read_text()
    assert "<html" in (folder / "report.html").read_text()


def test_without_matplotlib_there_is_no_report_and_it_is_said(folder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)
    task, said = find_task("text-classification"), []
    record = {"task": task.name, "source": {"model": "large"}, "seed": 1, "steps": [], "versions": {}, "hardware": {}}
    finish(folder, record, {"model": folder}, task, None, progress=False, say=said.append)
    assert not (folder / "report.html").exists()
    assert (folder / "README.md").is_file()
    assert "pip install 'hfcompress[report]'" in said[-1]
