"""`hfcompress bench`: models of both kinds side by side, a report where it is asked for, or a reason why not."""

import json

import pytest

from hfcompress.cli.bench import short_names
from hfcompress.environment import available_cores
from tests.cli.support import hfcompress, tree
from tests.measure.conftest import exported as exported

QUICK = ("--rounds", "2", "--seconds", "0.01", "--threads", "1", "--batch-sizes", "1", "--lengths", "8", "--no-memory")


@pytest.fixture
def models(teacher_dir, exported):
    return ("--model", teacher_dir, "--model", exported.int8)


def test_a_folder_and_an_onnx_file(models, exported, csv, tmp_path):
    folder = tmp_path / "report"
    done = hfcompress("bench", *models, "--dataset", csv, *QUICK, "--output-dir", folder, "--json")
    assert done.code == 0, done.err
    teacher, int8 = done.json["models"]
    assert int8["name"] == f"{exported.folder.name}/onnx/model_quantized.onnx"
    assert int8["quality"]["rows"] == done.json["rows"] == 96
    assert done.json["dataset"] == "reviews.csv"
    assert "peak_memory_bytes" not in teacher
    assert json.loads((folder / "measurements.json").read_text()) == done.json
    assert (folder / "report.html").is_file()
    assert str(tmp_path.parent) not in (folder / "report.html").read_text() + done.out


def test_what_people_read(models):
    done = hfcompress("bench", *models, *QUICK, "--lengths", "8,16")
    assert done.code == 0, done.err
    assert "PyTorch float32" in done.out
    assert "ONNX Runtime int8" in done.out
    assert done.out.count("batch 1 · 16 tokens · 1 thread") >= 2
    assert "Models took turns in one process, 2 rounds a setting" in done.out


def test_one_model_alone(exported):
    done = hfcompress("bench", "--model", exported.float, *QUICK)
    assert done.code == 0, done.err
    assert "ONNX Runtime float32" in done.out


def test_what_is_larger_is_said(exported):
    done = hfcompress("bench", "--model", exported.int8, "--model", exported.float, *QUICK)
    assert "onnx/model.onnx: size is larger" in done.out


def test_an_earlier_report_stays_unless_it_may_be_replaced(models, tmp_path):
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "measurements.json").write_text("old")
    (folder / "notes").write_text("mine")
    before = tree(folder)
    done = hfcompress("bench", *models, *QUICK, "--output-dir", folder)
    assert (done.code, tree(folder)) == (2, before)
    assert "holds measurements.json already" in done.err
    done = hfcompress("bench", *models, *QUICK, "--output-dir", folder, "--overwrite")
    assert done.code == 0, done.err
    assert (folder / "notes").read_text() == "mine"
    assert json.loads((folder / "measurements.json").read_text())["models"]


@pytest.mark.parametrize("leads_to", [None, "nowhere", "link"], ids=["a file", "dangling", "looping"])
def test_a_place_that_cannot_be_is_refused_before_anything_is_measured(models, tmp_path, leads_to):
    link = tmp_path / "link"
    link.symlink_to(leads_to) if leads_to else link.write_text("")
    done = hfcompress("bench", *models, *QUICK, "--output-dir", link / "report")
    assert (done.code, done.out) == (2, "")
    assert f"{link}: is not a folder" in done.err


def test_without_matplotlib_the_measurements_are_written_all_the_same(models, tmp_path, monkeypatch):
    monkeypatch.setattr("hfcompress.measure.report.report.report_available", lambda: False)
    done = hfcompress("bench", *models, *QUICK, "--output-dir", tmp_path / "new")
    assert done.code == 0, done.err
    assert "no report.html" in done.err
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["measurements.json"]


def test_short_names_tell_models_apart(tmp_path):
    for part in ("a", "b"):
        (tmp_path / part / "small").mkdir(parents=True)
    sources = [str(tmp_path / part / "small") for part in ("a", "b")]
    assert list(short_names([*sources, "bert-base"])) == ["small", "small (2)", "bert-base"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--threads", "0,two,all"], f"--threads: takes whole numbers from 1 to {available_cores()}, or `all`, got"),
        (["--threads", "1000000"], "--threads: takes whole numbers"),
        (["--lengths", "0"], "--lengths.0: input should be greater than or equal to 1"),
        (["--lengths", "long"], "--lengths.0: input should be a valid integer"),
        (["--batch-sizes", "-1"], "--batch-sizes"),
        (["--rounds", "1"], "--rounds: input should be greater than or equal to 2"),
        (["--seconds", "0"], "--seconds: input should be greater than 0"),
        (["--model", "nothing/model.onnx"], "nothing/model.onnx: there is no such file."),
        (["--task", "text-clasification"], "Did you mean 'text-classification'?"),
    ],
)
def test_faults(words, said, teacher_dir):
    done = hfcompress("bench", "--model", teacher_dir, *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
