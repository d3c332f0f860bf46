"""Rows that a model was made with, and is scored on now."""

import json

import pytest
from datasets import Dataset

from hfcompress.data import TaskData
from hfcompress.data.task_data import Draw
from hfcompress.pipeline.held_out import held_out, seen_before

ROWS = Dataset.from_dict({"text": ["good", "bad"], "labels": [1, 0]})


def data(draw):
    return TaskData(ROWS, ROWS, ("no", "yes"), None, draw=draw)


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    record = {"data": {"dataset": "reviews.csv"} | held_out(data(Draw(42, 100)))}
    (folder / "compression.json").write_text(json.dumps(record))
    return folder


@pytest.mark.parametrize("draw", [Draw(1, 100), Draw(42, 200), Draw(42, 2)])
def test_other_rows_are_held_out_now(draw, model):
    (note,) = seen_before([str(model), str(model)], "reviews.csv", data(draw))
    assert note.startswith("small was made with rows that it is scored on here")
    assert "--validation 100 --seed 42" in note


@pytest.mark.parametrize(
    ("dataset", "draw"), [("reviews.csv", Draw(42, 100)), ("reviews.csv", None), ("others.csv", Draw(1, 100))]
)
def test_the_same_rows_or_rows_of_their_own(dataset, draw, model):
    assert seen_before([str(model)], dataset, data(draw)) == []


def test_models_of_which_nothing_is_known(model, tmp_path):
    (model / "compression.json").write_text(json.dumps({"data": {"dataset": "reviews.csv"}}))
    assert seen_before([str(model), str(tmp_path), "bert-base"], "reviews.csv", data(Draw(1, 100))) == []
    (model / "compression.json").write_text(json.dumps({"steps": []}))
    assert seen_before([str(model)], "reviews.csv", data(Draw(1, 100))) == []


def test_nothing_was_drawn():
    assert held_out(data(None)) == {}
