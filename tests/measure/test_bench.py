"""The measurements as a whole: the keys that report and card read, with and without data."""

import json

import numpy as np
import pytest
import torch

from hfcompress.data import DataConfig, load_validation
from hfcompress.errors import RequestError
from hfcompress.measure.bench import UNTIMED, BenchSettings, bench
from hfcompress.measure.latency import Effort
from hfcompress.measure.quality import More
from hfcompress.tasks import TASKS

TASK = TASKS["text-classification"]
SHORT = BenchSettings((1,), (8, 16), (1,), Effort(rounds=2, warm_up=0))


@pytest.fixture(scope="module")
def data(csv):
    return load_validation(DataConfig(str(csv)), ("negative", "positive"), 0, TASK)


@pytest.fixture(scope="module")
def sources(exported, teacher_dir):
    return {"teacher": teacher_dir, "small": exported.folder, "small int8": exported.int8}


@pytest.fixture(scope="module")
def measured(sources, data):
    torch.set_num_threads(1)
    return bench(sources, TASK, data, seed=1, settings=SHORT)


def test_measurements_are_json_and_name_no_place(measured, sources):
    text = json.dumps(measured)
    assert json.loads(text).keys() == {
        *("task", "main_metric", "labels", "rows", "dataset", "settings", "hardware", "versions", "models"),
        *("examples", "examples_total"),
    }
    assert not any(str(source.parent) in text for source in sources.values())
    assert (measured["task"], measured["main_metric"], measured["rows"]) == ("text-classification", "accuracy", 96)
    assert measured["labels"] == ["negative", "positive"]
    assert measured["settings"] == {"seed": 1, "max_length": None, "rounds": 2, "seconds": None}


def test_every_model_has_every_figure(measured):
    first, small, int8 = measured["models"]
    assert [row["name"] for row in measured["models"]] == ["teacher", "small", "small int8"]
    for row in (first, small, int8):
        assert row["bytes"] == sum(row["component_bytes"].values())
        assert row["peak_memory_bytes"] > row["bare_memory_bytes"] > 0
        assert [one["length"] for one in row["latencies"]] == [8, 16]
        kept = {name: row["latencies"][1][name] for name in row["latency"]}
        assert row["latency"] == kept
        assert row["quality"]["rows"] == 96
        assert sum(map(sum, row["confusion"])) == 96
        right = sum(row["confusion"][place][place] for place in range(2))
        assert row["quality"]["metrics"]["accuracy"] == pytest.approx(right / 96)
    assert (first["runtime"], first["precision"], first["file"]) == ("PyTorch", "float32", "model.safetensors")
    assert (int8["runtime"], int8["precision"], int8["file"]) == ("ONNX Runtime", "int8", "onnx/model_quantized.onnx")
    assert first["quality"]["difference_interval"] == [0.0, 0.0]
    assert int8["parameters"] == small["parameters"] == sum(small["components"].values())
    assert len(first["layers"]) == 4
    assert int8["layers"][0]["bits"] == {"attention": 8, "ffn": 8}


def test_examples_are_the_rows_that_differ(measured):
    assert measured["examples_total"] == len(measured["examples"])
    for example in measured["examples"]:
        assert example["answers"].keys() == {"teacher", "small", "small int8"}
        assert len(set(example["answers"].values())) == 2
        assert example["label"] in ("negative", "positive")


def test_answers_that_are_known_are_not_asked_for_again(sources, data, monkeypatch):
    known = {name: np.eye(2)[[0] * 96] for name in sources}
    monkeypatch.setattr("hfcompress.measure.bench.predict", None)
    found = bench(sources, TASK, data, known_answers=known, settings=UNTIMED)
    assert [row["quality"]["metrics"]["accuracy"] for row in found["models"]] == [0.5] * 3
    assert (found["examples"], found["examples_total"]) == ([], 0)
    assert all("latency" not in row and "peak_memory_bytes" not in row for row in found["models"])


def test_without_data_there_is_no_quality(sources):
    found = bench({"small": sources["small"]}, TASK, settings=UNTIMED)
    (row,) = found["models"]
    assert (row["quality"], row["classes"], row["confusion"]) == (None, None, None)
    assert (found["rows"], found["main_metric"], found["examples"]) == (0, None, None)
    assert found["labels"] == ["negative", "positive"]


def test_only_models_that_write_can_be_asked_to(sources, data):
    with pytest.raises(RequestError, match="goes with models that write texts"):
        bench(sources, TASK, data, settings=UNTIMED, more=More(generate=True))
