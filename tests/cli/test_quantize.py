"""`hfcompress quantize`: methods that make PyTorch models and methods that write ONNX files, behind one flag."""

import pytest
from transformers import AutoModelForSequenceClassification, pipeline

from hfcompress import registry
from hfcompress.errors import RequestError
from hfcompress.export.backends.base import find_backend
from hfcompress.export.methods import quantization_methods
from tests.cli.support import hfcompress
from tests.tiny import GOOD, tiny_head, tiny_tokenizer


def runs_exports():
    """Say whether a backend is installed."""
    try:
        return bool(find_backend("auto"))
    except RequestError:
        return False


@pytest.fixture
def words(teacher_dir, tmp_path):
    return ("quantize", "--model", teacher_dir, "--output-dir", tmp_path / "out", "--json")


def test_help_lists_both_kinds_of_methods():
    out = hfcompress("quantize", "--help").out
    methods = {**registry.methods("quantization"), **quantization_methods()}
    assert {"bnb_nf4", "static", "float16"} <= set(methods)
    assert all(f"  {name} " in out and method.help in out for name, method in methods.items())


def test_help_of_a_method_shows_its_flags_alone():
    packed, graph = (hfcompress("quantize", "--method", name, "--help").out for name in ("bnb-nf4", "static"))
    assert "bnb_nf4: " in packed
    assert "--no-double-quantization" in packed
    assert "--calibrator" not in packed
    assert "static: " in graph
    assert "--calibrator" in graph
    assert "--quantize " not in graph


def test_four_bits_load_again_and_are_evaluated(csv, tmp_path, brisk):
    bnb = pytest.importorskip("bitsandbytes")
    labels = {"id2label": {0: "negative", 1: "positive"}, "label2id": {"negative": 0, "positive": 1}}
    tiny_head("bert", "ForSequenceClassification", width=64, **labels).save_pretrained(tmp_path / "wide")
    tiny_tokenizer().save_pretrained(tmp_path / "wide")
    words = ("quantize", "--model", tmp_path / "wide", "--output-dir", tmp_path / "out", "--json")
    done = hfcompress(*words, "--method", "bnb-nf4", "--dataset", csv)
    assert done.code == 0, done.err
    assert done.json["steps"][0]["method"] == "bnb_nf4"
    assert done.json["steps"][0]["findings"]["bitsandbytes"]["bits"] == 4
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert any(isinstance(module, bnb.nn.Linear4bit) for module in model.modules())
    (answer,) = pipeline("text-classification", model=str(tmp_path / "out"))([" ".join(GOOD[:3])])
    assert answer["label"] in ("negative", "positive")
    scored = hfcompress("evaluate", "--model", tmp_path / "out", "--dataset", csv, "--json")
    assert scored.code == 0, scored.err
    again = hfcompress(
        *("quantize", "--model", tmp_path / "out", "--method", "bnb_int8", "--dataset", csv),
        *("--output-dir", tmp_path / "twice"),
    )
    assert again.code == 2
    assert "quantized already (bitsandbytes)" in again.err
    assert not (tmp_path / "twice").exists()


@pytest.mark.skipif(not runs_exports(), reason="no export backend is installed")
def test_a_graph_method_writes_what_export_does(words, tmp_path, brisk):
    done = hfcompress(*words, "--method", "int8-weights", "--fusion", "off")
    assert done.code == 0, done.err
    assert (tmp_path / "out" / "onnx" / "model_int8.onnx").is_file()
    assert done.json["export"]["quantization"]["asked"] == "int8_weights"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ((), "--method: is missing"),
        (("--method", "bnb-nf5"), "there is no method 'bnb-nf5'"),
        (("--method", "bnb-nf4"), "--dataset: is missing"),
        (("--method", "static"), "looks at rows of data"),
        (("--method", "int4", "--max-size", "3"), "--max-size: goes with mixed"),
        (("--method", "int4", "--threshold", "3"), "--threshold: is an option of bnb_int8"),
        (("--method", "bnb-nf4", "--calibrator", "minmax"), "--calibrator"),
    ],
)
def test_bad_requests(words, tmp_path, more, said):
    done = hfcompress(*words, *more)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert not (tmp_path / "out").exists()
