"""What the page says in words: what it cost, what is larger and what is slower."""

import pytest

from hfcompress.measure.report import summary
from hfcompress.measure.report.classes import MOST_CLASSES, class_blocks
from tests.measure.report.measured import realistic


@pytest.fixture
def measurements():
    return realistic()[0]


def test_heading_speaks_of_the_smallest_model(measurements):
    headline = summary.headline(measurements)
    share = 100 * measurements["models"][3]["latency"]["median_ms"] / measurements["models"][0]["latency"]["median_ms"]
    assert headline["title"] == "student int8 against teacher"
    assert headline["sentence"].replace("\u00a0", " ") == (
        f"It keeps 97.7 % of the accuracy in {share:.0f} % of the time and 19 % of the bytes."
    )
    assert [(item["name"], item["before"]) for item in headline["figures"]][:2] == [
        ("accuracy", "83.7 before"),
        ("size", "90.9 before"),
    ]


@pytest.mark.parametrize(
    ("without", "said"),
    [
        (("quality",), "It takes 25 % of the time and 19 % of the bytes."),
        (("quality", "latency"), "It takes 19 % of the bytes."),
        (("bytes", "latency"), "It keeps 97.7 % of the accuracy."),
        (("quality", "bytes", "latency"), ""),
    ],
)
def test_heading_says_what_was_measured(measurements, without, said):
    for model in measurements["models"]:
        model |= dict.fromkeys(without)
    assert summary.headline(measurements)["sentence"].replace("\u00a0", " ") == said


def test_of_equal_sizes_the_last_is_named():
    assert summary.featured([{"bytes": 1}, {"bytes": 5}, {"bytes": 5}]) == 2
    assert summary.featured([{"bytes": 1}, {"bytes": 5}, {"bytes": 7}]) == 1
    assert summary.featured([{}, {}]) == 1
    assert summary.featured([{}]) == 0


def test_nothing_worse_is_said_too(measurements):
    said = summary.in_words(measurements)
    assert said[0] == "student: accuracy −1.6 points on 1,000 rows; the 95 % interval, −3.6 to +0.4, includes zero."
    assert said[-1] == "Nothing that was measured is larger or slower than teacher."
    assert len(said) == 4


def test_what_is_larger_slower_or_lower_is_said(measurements):
    student = measurements["models"][1]
    measurements["models"] = measurements["models"][:2]
    student["quality"]["difference_interval"] = [-0.03, -0.002]
    student["peak_memory_bytes"] = 1224e6
    student["latency"] = {"median_ms": 86.4, "p95_ms": 20.0, "ratio": 2.0, "ratio_interval": [1.9, 2.1]}
    measurements["models"][0]["latency"]["median_ms"] = 43.2
    student["latencies"][2] |= {"ratio": 1.2, "ratio_interval": [1.1, 1.3]}
    assert summary.in_words(measurements) == [
        "student: accuracy is lower by −3.0 to −0.2 points on 1,000 rows (95 % interval).",
        "student: time is slower: 86.4 ms against 43.2 ms (× 2.00).",
        "student: peak memory is larger: 1,224 MB against 612 MB (× 2.00).",
        "student is slower than teacher at batch 32 · 128 tokens · 1 thread: × 1.20 of its time.",
    ]


def test_half_a_percent_is_not_called_larger(measurements):
    first, student = measurements["models"][:2]
    student["bytes"] = int(1.004 * first["bytes"])
    assert {row.name: row.cells[1].worse for row in summary.table(measurements)}["size"] == ""
    student["bytes"] = int(1.006 * first["bytes"])
    assert {row.name: row.cells[1].worse for row in summary.table(measurements)}["size"] == "larger"


def test_rows_that_nobody_has_are_left_out(measurements):
    for model in measurements["models"]:
        model |= {"macs": None, "peak_memory_bytes": None, "quality": None}
    assert [row.name for row in summary.table(measurements)] == [
        *("parameters", "size", "time", "time, slow calls", "time ratio"),
    ]


def test_class_that_lost_shows_its_change(measurements):
    blocks = class_blocks(measurements)
    assert [row["change"] for row in blocks[0]["rows"]] == [None, None]
    assert blocks[1]["rows"][0]["change"] == pytest.approx(-1.6, abs=0.01)
    assert blocks[0]["matrix"][0]["cells"][0] == {"count": "424", "share": 0.848, "right": True}


def test_of_very_many_classes_those_that_lost_most_are_shown(measurements):
    size = MOST_CLASSES + 10
    for place, model in enumerate(measurements["models"]):
        model["classes"] = [
            {"label": f"class {n}", "support": 10, "precision": 0.5, "recall": 0.5, "f1": 0.9 - place * 0.01 * n}
            for n in range(size)
        ]
        model["confusion"] = [[10 if i == j else int(j == i + 1) * (i + 1) for j in range(size)] for i in range(size)]
    block = class_blocks(measurements)[1]
    assert [row["label"] for row in block["rows"]] == [f"class {n}" for n in range(10, size)]
    assert block["left_out"] == 10
    assert block["matrix"] is None
    assert len(block["confused"]) == 20
    assert block["confused"][0] == {"count": "49", "truth": "class 48", "answer": "class 49", "share": 49 / 59}


def test_confusion_of_another_size_than_the_classes_is_left_out(measurements):
    measurements["models"][0]["confusion"] = [[1]]
    assert class_blocks(measurements)[0]["matrix"] is None


def test_zeros_are_shown_where_there_are_some_and_what_they_are_worth_is_said(measurements):
    assert "zeros" not in [row.name for row in summary.table(measurements)]
    for model, share in zip(measurements["models"], (0.0003, 0.45), strict=False):
        model["zeros"] = share
    row = next(row for row in summary.table(measurements) if row.name == "zeros")
    assert [cell.text for cell in row.cells] == ["0.0", "45.0", "", ""]
    assert summary.in_words(measurements)[-1] == (
        "student: 45.0 % of its parameters are zero; "
        "zeros alone save neither time nor bytes in PyTorch and ONNX Runtime."
    )
    measurements["models"][1]["zeros"] = 0.01
    assert "zeros" not in [row.name for row in summary.table(measurements)]
    assert not any("zero;" in sentence for sentence in summary.in_words(measurements))
