"""The page and its figures: complete, exact, self-contained, the same in every run, and safe with any text."""

import copy
import re

import numpy as np
import pytest
from PIL import Image

from hfcompress.errors import RequestError
from hfcompress.measure.report import report, report_available, write_report
from tests.measure.report.measured import realistic
from tests.measure.report.pages import Page

HOSTILE = [
    "</title></style></script><script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "$\\frac{1}{2}$ {{ 7 * 7 }} {% raw %}",
    ' id="page" url(#x) #1b2026 &lt;',
    "模型 نموذج \ud800\x00\u202e",
    "x" * 5000,
]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return folder, write_report(*realistic(), folder)


@pytest.fixture(scope="module")
def page(written):
    return Page((written[0] / "report.html").read_text(encoding="utf-8"))


def read(folder):
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def hostile():
    """Five models and thirty classes, every name of them meant to break out."""
    measurements, record = realistic()
    labels = [f"{HOSTILE[place % len(HOSTILE)][:80]}{place}" for place in range(30)]
    models = [copy.deepcopy(measurements["models"][min(place, 3)]) for place in range(5)]
    for place, model in enumerate(models):
        model |= {"name": HOSTILE[place], "latencies": model["latencies"][:1], "runtime": HOSTILE[0]}
        model["classes"] = [
            {"label": each, "support": 2, "precision": 1.0, "recall": 0.5, "f1": 2 / 3} for each in labels
        ]
        model["confusion"] = np.eye(30, dtype=int).tolist()
        model["component_bytes"] = {f"{HOSTILE[0]}{part}": 1e6 for part in range(9)}
        model["layers"] = [{"layer": HOSTILE[0], "heads": 4, "neurons": 9, "rank": HOSTILE[1], "bits": None}]
    measurements |= {"models": models, "labels": labels, "task": HOSTILE[0], "dataset": HOSTILE[1]}
    answers = {name: HOSTILE[1] for name in HOSTILE}
    measurements["examples"] = [{"input": text, "label": text, "answers": answers} for text in HOSTILE]
    record["steps"][0]["config"] = {HOSTILE[0]: HOSTILE[1]}
    record["description"] = HOSTILE[0]
    found = record["steps"][1]["findings"]["low_rank"]
    found |= {"loss": HOSTILE[0], "cost": HOSTILE[1], "predicted_loss": HOSTILE[2], "by_ratio": [HOSTILE[3], [1]]}
    for place, layer in enumerate(found["layers"]):
        layer |= {"name": HOSTILE[place % len(HOSTILE)], "rank": HOSTILE[1] if place % 2 else 9}
    return measurements, record


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    write_report(*hostile(), folder)
    return folder


def test_all_figures_are_written(written):
    folder, files = written
    assert files == [folder / "report.html", *(folder / "figures" / f"{name}.png" for name in report.FIGURES)]
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == sorted(files)
    for path in files[1:]:
        pixels = np.asarray(Image.open(path).convert("L"), dtype=float)
        assert min(pixels.shape) > 200
        assert pixels.std() > 5


def test_page_is_well_formed_and_its_ids_are_unique(page):
    assert page.misplaced == []
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))


def test_links_and_labels_point_at_something(page):
    anchors = [attributes["href"] for attributes in page.tags("a")]
    used = [attributes["href"] for attributes in page.tags("use")]
    labels = [each for _, a in page.elements if "aria-labelledby" in a for each in a["aria-labelledby"].split()]
    clips = [re.search(r"#([^)]*)", a["clip-path"])[1] for _, a in page.elements if "clip-path" in a]
    assert {each.removeprefix("#") for each in anchors + used} | set(labels) | set(clips) <= set(page.ids)
    assert len(anchors) == 10


def test_page_loads_nothing(written, page):
    text = (written[0] / "report.html").read_text(encoding="utf-8")
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text
    loading = [a for _, a in page.elements if {"src", "srcset", "data", "action"} & a.keys()]
    assert loading == []
    assert [a["href"] for a in page.tags("link")] == ["data:,"]
    (policy,) = (a["content"] for a in page.tags("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; ")


def test_figures_follow_the_colours_of_the_page(written):
    text = (written[0] / "report.html").read_text(encoding="utf-8")
    drawings = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    for name in ("ink", "muted", "line", "reference"):
        assert f"var(--{name})" in drawings
        assert report.drawing.THEME[name][0] not in drawings


def test_table_holds_the_measured_numbers(page):
    assert page.row("accuracy")[1:] == [
        "83.7 81.3 to 86.0",
        "82.1 79.7 to 84.4",
        "82.1 79.7 to 84.4",
        "81.8 79.4 to 84.1",
    ]
    assert page.row("change in accuracy")[1:3] == ["", "−1.6 −3.6 to +0.4"]
    assert page.row("kept")[1:] == ["", "98.1", "98.1", "97.7"]
    assert page.row("parameters")[1:] == ["22.7 M", "17.4 M × 0.77", "", ""]
    assert page.row("size")[1:] == ["90.9", "69.6 × 0.77", "69.7 × 0.77", "17.7 × 0.19"]
    assert page.row("work")[1:] == ["1.43", "0.72 × 0.50", "", ""]
    assert page.row("peak memory")[1:] == ["612", "590 × 0.96", "233 × 0.38", "141 × 0.23"]
    medians = [f"{model['latency']['median_ms']:.1f}" for model in realistic()[0]["models"]]
    assert [cell.split()[0] for cell in page.row("time ms, median")[1:]] == medians


def test_page_holds_classes_confusion_examples_and_how_it_was_made(page):
    assert ["negative", "500", "84.9", "82.6", "83.7"] in [[c.strip() for c in row] for row in page.rows]
    assert ["negative", "424", "76"] in [[c.strip() for c in row] for row in page.rows]
    assert page.row("funnier than it")[1:] == ["positive", "positive", "positive", "positive", "negative wrong"]
    assert "7 of the 46 rows on which a model answers otherwise than teacher." in page.text
    assert ["student", "distill"] in [[cell.strip() for cell in row[:2]] for row in page.rows]
    for said in ("losses (kl (weight: 0.7, temperature: 2), task: 0.3)", "AMD EPYC", "18 MatMul, 3 Gather", "9.5e-07"):
        assert said in page.text


def test_every_table_has_a_caption_and_headings_for_its_columns(page):
    tables = len(page.tags("table"))
    assert tables == len(page.tags("caption")) == 14
    assert all(a.get("scope") in ("col", "row") for a in page.tags("th"))
    svgs = page.tags("svg")
    assert len(svgs) == 14
    assert all(a["role"] == "img" and a["aria-labelledby"] for a in svgs)


def test_same_measurements_give_the_same_bytes(written, tmp_path):
    again = write_report(*realistic(), tmp_path)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in written[1]]


def test_hostile_texts_stay_texts(attacked, page):
    found = read(attacked)
    assert found.misplaced == []
    assert found.open == []
    assert len(found.ids) == len(set(found.ids))
    assert len(found.tags("script")) == len(page.tags("script")) == 1
    assert found.tags("img") == []
    assert [name for _, a in found.elements for name in a if name.startswith("on")] == []
    assert "<img src=x onerror=alert(2)>" in found.text
    assert "{{ 7 * 7 }}" in found.text
    assert ' id="page" url(#x) #1b2026 &lt;' in found.text


def test_long_texts_are_cut_and_what_cannot_be_shown_is_replaced(attacked):
    text = (attacked / "report.html").read_text(encoding="utf-8")
    assert "x" * 401 not in text
    assert "\x00" not in text
    assert "\u202e" not in text
    assert "模型 نموذج ��" in read(attacked).text


def test_many_classes_are_numbered_and_folded(attacked):
    found = read(attacked)
    assert len(found.tags("details")) == 2 + 5
    assert [row[1:] for row in found.rows if len(row) == 31 and not row[0].strip()][0] == [
        f" {n}" for n in range(1, 31)
    ]


def test_one_model_without_data_classes_or_latency(tmp_path):
    measurements, _ = realistic()
    model = measurements["models"][0]
    for name in ("quality", "classes", "confusion", "latency", "layers", "peak_memory_bytes"):
        model[name] = None
    model["latencies"] = []
    measurements |= {"models": [model], "examples": [], "examples_total": 0, "rows": None}
    files = write_report(measurements, None, tmp_path)
    found = read(tmp_path)
    assert [path.name for path in files] == ["report.html", "components.png"]
    assert found.misplaced == []
    assert found.tags("script") == []
    assert {"table", "size", "made"} == {a["id"] for a in found.tags("section")}
    headings = [row[0].strip().partition(" ")[0] for row in found.rows if len(row) == 2]
    assert headings[1:4] == ["parameters", "size", "work"]


def test_regression_has_no_classes_and_no_percent(tmp_path):
    measurements, record = realistic()
    del record["steps"][1]["findings"]
    measurements["models"] = measurements["models"][:2]
    for model in measurements["models"]:
        metrics = {"spearman": 0.853, "mean_squared_error": float("nan")}
        model["quality"] |= {"metrics": metrics, "main": "spearman", "interval": [0.84, 0.87]}
        model |= {"classes": None, "confusion": None, "latencies": None, "component_bytes": None, "layers": None}
    measurements["models"][1]["quality"]["difference_interval"] = [-0.011, -0.002]
    measurements["examples"] = [{"input": "a", "label": None, "answers": {"teacher": 0.71, "student": 0.34567}}]
    files = write_report(measurements, record, tmp_path)
    found = read(tmp_path)
    assert {path.stem for path in files[1:]} == {"quality_latency", "quality_size", "latency"}
    assert found.row("spearman")[1] == "0.853 0.840 to 0.870"
    assert found.row("change in spearman")[2] == "+0.000 −0.011 to −0.002 lower"
    assert found.row("a")[1:] == ["", "0.71", "0.346"]


def test_figures_of_an_earlier_report_do_not_stay(tmp_path):
    measurements, _ = realistic()
    measurements["models"] = measurements["models"][:1]
    stale, foreign = tmp_path / "figures" / "quality_size.png", tmp_path / "figures" / "mine.png"
    stale.parent.mkdir()
    stale.touch()
    foreign.touch()
    write_report(measurements, None, tmp_path)
    assert not stale.exists()
    assert foreign.exists()


def test_missing_packages_are_named(monkeypatch, tmp_path):
    assert report_available()
    monkeypatch.setattr(report.importlib.util, "find_spec", lambda name: None)
    assert not report_available()
    with pytest.raises(RequestError, match=r"pip install 'hfcompress\[report\]'"):
        write_report(*realistic(), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_nothing_measured_is_refused(tmp_path):
    with pytest.raises(RequestError, match="hold no model"):
        write_report({"task": "text-classification", "models": []}, None, tmp_path)
