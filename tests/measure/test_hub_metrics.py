"""Metrics of the `evaluate` library: a script of the user's own, names on the Hub, and each way that fails."""

import datasets
import numpy as np
import pytest

from hfcompress.errors import NetworkError, RequestError
from hfcompress.measure.hub_metrics import compute
from hfcompress.tasks import TASKS

SCRIPT = """
import datasets
import evaluate

class Share(evaluate.Metric):
    def _info(self):
        features = datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")})
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions, references, factor=1.0):
        hits = sum(a == b for a, b in zip(predictions, references))
        return {"share": factor * hits / len(references), "each": [1, 2], "kind": "text"}
"""


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_MODULES_CACHE", str(tmp_path / "modules"))


@pytest.fixture
def script(tmp_path):
    (tmp_path / "share").mkdir()
    (tmp_path / "share" / "share.py").write_text(SCRIPT)


def test_a_script_of_the_users_own_scores_by_its_path(script):
    assert compute("./share", [1, 2, 3, 1], [1, 2, 2, 1]) == {"share": 0.75}
    assert compute("./share/share.py", np.array([1, 2]), np.array([1, 0]), factor=2) == {"share": 1.0}


def test_what_a_metric_cannot_score_is_said_in_one_sentence(script):
    with pytest.raises(RequestError, match=r"this metric cannot score the model's answers: .*invalid literal"):
        compute("./share", ["a"], [1])
    with pytest.raises(RequestError, match="unexpected keyword argument 'average'"):
        compute("./share", [1], [1], average="macro")


def test_a_bare_name_never_runs_a_script_that_lies_there(script):
    with pytest.raises(RequestError, match=r"is both a metric's name and a script in this folder. .* write \./share;"):
        compute("share", [1], [1])


def test_a_name_without_a_network_says_what_needs_none():
    with pytest.raises(
        NetworkError, match="Hub cannot be reached to get the metric 'accuracy'.* network: accuracy, f1."
    ):
        compute("accuracy", [1], [1], own=["accuracy", "f1"])


@pytest.mark.parametrize("name", ["no such", "someone/metric", "./absent", ""])
def test_what_is_no_metric_is_refused(name):
    with pytest.raises(RequestError, match=r"Measured without a network: accuracy\."):
        compute(name, [1], [1], own=["accuracy"])


def test_a_script_that_fails_and_one_that_needs_a_package_are_named(tmp_path):
    (tmp_path / "broken.py").write_text("import datasets\nraise ValueError('oh no')\n")
    with pytest.raises(RequestError, match="this metric cannot be loaded: oh no"):
        compute("./broken.py", [1], [1])
    (tmp_path / "needy.py").write_text("import a_package_that_is_not_there\n")
    with pytest.raises(RequestError, match="needs packages that are not installed: .*a_package_that_is_not_there"):
        compute("./needy.py", [1], [1])


@pytest.mark.parametrize(
    ("answers", "references", "expected"),
    [
        ([[0.1, 0.9], [2.0, 1.0]], [1, 1], ([1, 0], [1, 1])),
        ([[0.5], [-1.0]], [0.25, 1.0], ([0.5, -1.0], [0.25, 1.0])),
        ([[2.0, -1.0, 0.1]], [[1.0, 0.0, 0.0]], ([[1, 0, 1]], [[1, 0, 0]])),
    ],
)
def test_answers_become_classes_numbers_or_flags(answers, references, expected):
    found = TASKS["text-classification"].for_metric(np.array(answers), np.array(references))
    assert found == expected
    assert all(type(value) in (int, float, list) for part in found for value in part)
