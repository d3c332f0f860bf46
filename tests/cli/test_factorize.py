"""`hfcompress factorize`: every method's options are flags; what comes out loads again, and is pruned and exported."""

import pytest
import torch
from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification, pipeline

import hfcompress as package  # noqa: F401
from hfcompress import registry
from hfcompress.factorization.convolutions import ConvOptions
from hfcompress.modeling.load import load_image_processor, load_model
from hfcompress.modeling.low_rank import ConvChain, LowRankLinear
from hfcompress.modeling.low_rank_embedding import LowRankEmbedding
from hfcompress.tasks import find_task
from tests.cli.support import hfcompress, tree
from tests.tiny import GOOD

METHODS = registry.methods("factorization")
OF_CONVOLUTIONS = [name for name, method in METHODS.items() if issubclass(method.config, ConvOptions)]
OF_TEXTS = [name for name in METHODS if name not in OF_CONVOLUTIONS]
DIGITS = {index: str(index) for index in range(10)}


@pytest.fixture
def factorize(teacher_dir, csv, tmp_path):
    """Run `hfcompress factorize` on the tiny classifier, into `out`."""
    start = ("--model", teacher_dir, "--dataset", csv, "--output-dir", tmp_path / "out", "--json")
    return lambda *words: hfcompress("factorize", *start, *words)


def test_help_lists_every_method_with_its_line():
    out = hfcompress("factorize", "--help").out
    assert all(f"  {name} " in out and method.help in out for name, method in METHODS.items())


@pytest.mark.parametrize("method", OF_TEXTS)
def test_it_makes_a_smaller_model_that_pipelines_load(method, factorize, tmp_path, brisk):
    done = factorize("--method", method, "--target-params", "0.7", "--multiple", "4")
    assert done.code == 0, done.err
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    thin = any(isinstance(module, LowRankLinear | LowRankEmbedding) for module in model.modules())
    assert thin is (method != "head_size")  # it makes layers narrower that are there
    before, after = done.json["results"]
    assert after["parameters"] == model.num_parameters() < before["parameters"]
    (answer,) = pipeline("text-classification", model=str(tmp_path / "out"), device="cpu")([" ".join(GOOD[:3])])
    assert answer["label"] in ("negative", "positive")


@pytest.mark.parametrize("method", OF_CONVOLUTIONS)
def test_methods_for_convolutions_refuse_texts(method, factorize, tmp_path):
    done = factorize("--method", method, "--target-macs", "0.5")
    assert (done.code, done.out) == (2, "")
    assert "method: this bert has no convolutions of images" in done.err
    assert "for linear layers choose activation" in done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", OF_CONVOLUTIONS)
def test_convolutions_become_chains_that_load_again(method, tmp_path, brisk):
    source = "shape:resnet-18;width=0.125;image_size=32"
    model = load_model(source, find_task("image-classification"), num_labels=10, id2label=DIGITS)
    model.classifier[1].bias.data.normal_()
    model.save_pretrained(tmp_path / "resnet")
    load_image_processor(source).save_pretrained(tmp_path / "resnet")
    words = ("--dataset", "sklearn:digits", "--max-train-samples", "48", "--examples", "32", "--multiple", "4")
    start = ("--model", tmp_path / "resnet", "--output-dir", tmp_path / "out", "--json")
    words = ("factorize", *start, *words, "--method", method, "--target-macs", "0.6")
    dry = hfcompress(*words, "--dry-run")
    assert dry.code == 0, dry.err
    assert not (tmp_path / "out").exists()
    done = hfcompress(*words)
    assert done.code == 0, done.err
    before, after = done.json["results"]
    assert dry.json["steps"][0]["parameters"] == after["parameters"] < before["parameters"]
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "out")
    assert any(isinstance(module, ConvChain) for module in model.modules())


def test_it_goes_on_with_pruning_and_onnx(factorize, csv, tmp_path, brisk):
    assert factorize("--method", "svd", "--rank", "8").code == 0
    words = ("--model", tmp_path / "out", "--dataset", csv, "--output-dir", tmp_path / "pruned", "--export", "onnx")
    done = hfcompress("prune", *words, "--method", "fisher", "--macs", "0.6", "--multiple", "4")
    assert done.code == 0, done.err
    assert (tmp_path / "pruned" / "onnx" / "model.onnx").is_file()
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "pruned").eval()
    with torch.no_grad():
        assert model(**model.dummy_inputs).logits.isfinite().all()


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ((), f"--method: is missing. Allowed: {', '.join(METHODS)}."),
        (("--method", "svd"), "nothing says what the ranks are to be"),
        (("--method", "svd", "--rank", "0"), "--rank"),
        (("--method", "svd", "--rank", "4", "--examples", "9"), "is an option of activation,"),
    ],
)
def test_bad_flags_are_refused(words, fault, factorize, tmp_path):
    done = factorize(*words)
    assert (done.code, done.out) == (2, "")
    assert fault in done.err
    assert tree(tmp_path) == {}
