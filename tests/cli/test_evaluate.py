"""`hfcompress evaluate`: models side by side on the same rows, or a reason why not."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tests.cli.support import hfcompress
from tests.measure.conftest import exported as exported
from tests.tiny import sentences, tiny_model, tiny_tokenizer, write_csv

LABELS = {0: "negative", 1: "positive"}


def save(folder, model):
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model that answers by the first class's words: right on many rows, wrong on others."""
    return save(tmp_path_factory.mktemp("small"), tiny_model("distilbert", layers=1, seed=3, id2label=LABELS))


def accuracy(folder, rows):
    """Score a model row by row, by hand."""
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), tiny_tokenizer()
    names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
    right = []
    for text, label in rows:
        inputs = tokenizer(text, return_tensors="pt")
        with torch.inference_mode():
            answer = model(**{name: inputs[name] for name in names}).logits.argmax().item()
        right.append(LABELS[answer] == label)
    return np.mean(right)


def test_one_model(trained, csv):
    done = hfcompress("evaluate", "--model", trained, "--dataset", csv, "--json")
    assert (done.code, done.json["rows"]) == (0, 96)
    (row,) = done.json["results"]
    assert row["name"] == str(trained)
    quality = row["quality"]
    assert quality["metrics"]["accuracy"] == pytest.approx(accuracy(trained, sentences(96)))
    low, high = quality["interval"]
    assert low <= quality["metrics"]["accuracy"] <= high
    assert "latency" not in row
    assert row["bytes"] == (trained / "model.safetensors").stat().st_size


def test_two_models_are_compared_with_the_first(teacher_dir, trained, csv):
    done = hfcompress("evaluate", "--model", teacher_dir, "--model", trained, "--dataset", csv, "--json", "--latency")
    first, second = done.json["results"]
    assert first["quality"]["difference_interval"] == [0.0, 0.0]
    assert first["latency"]["ratio"] == 1.0
    low, high = second["quality"]["difference_interval"]
    change = second["quality"]["metrics"]["accuracy"] - first["quality"]["metrics"]["accuracy"]
    assert low <= change <= high
    assert second["latency"]["median_ms"] > 0
    table = hfcompress("evaluate", "--model", f"{teacher_dir},{trained}", "--dataset", csv)
    assert "96 rows of " in table.out
    assert f"{100 * change:+.1f}" in table.out


def test_onnx_files_beside_their_folder(exported, csv):
    models = [word for source in (exported.folder, exported.float, exported.int8) for word in ("--model", source)]
    done = hfcompress("evaluate", *models, "--dataset", csv, "--latency", "--json")
    assert done.code == 0, done.err
    folder, float_file, int8_file = done.json["results"]
    assert folder["quality"] | {"difference_interval": [0, 0]} == float_file["quality"]
    assert float_file["name"] == str(exported.float)
    assert int8_file["bytes"] == exported.int8.stat().st_size < float_file["bytes"]
    assert int8_file["latency"]["ratio"] > 0
    table = hfcompress("evaluate", *models, "--dataset", csv)
    assert table.code == 0, table.err


@pytest.mark.parametrize("kind", ["missing", "alone", "broken"])
def test_onnx_files_that_cannot_be_used(kind, exported, csv, tmp_path):
    folder = tmp_path if kind != "broken" else exported.folder
    file = folder / f"{kind}.onnx"
    if kind != "missing":
        file.write_bytes(b"no graph")
    done = hfcompress("evaluate", "--model", file, "--dataset", csv)
    assert done.code == 2
    said = {"missing": "there is no such file", "alone": "has no config.json", "broken": "ONNX Runtime cannot open it"}
    assert f"{file}: " in done.err
    assert said[kind] in done.err


def test_an_onnx_file_without_onnx_runtime(exported, csv, monkeypatch):
    monkeypatch.setattr("hfcompress.modeling.onnx_model.importlib.util.find_spec", lambda name: None)
    done = hfcompress("evaluate", "--model", exported.float, "--dataset", csv)
    assert done.code == 2
    assert "needs ONNX Runtime, which is not installed" in done.err


def test_the_evaluator_of_the_evaluate_library_agrees(exported, csv):
    """Hugging Face's evaluator on Optimum's pipeline gives the same accuracy on the same file."""
    pipelines = pytest.importorskip("optimum.pipelines")
    evaluate = pytest.importorskip("evaluate")
    from datasets import ClassLabel, Dataset, Features, Value
    from optimum.onnxruntime import ORTModelForSequenceClassification

    class Accuracy(evaluate.Metric):
        """The share of right answers, without the Hub."""

        def _info(self):
            features = Features({"predictions": Value("int32"), "references": Value("int32")})
            return evaluate.MetricInfo(description="", citation="", features=features)

        def _compute(self, predictions, references):
            return {"accuracy": float(np.mean(np.array(predictions) == np.array(references)))}

    texts, labels = zip(*sentences(96), strict=True)  # the rows of the csv file
    features = Features({"text": Value("string"), "label": ClassLabel(names=["negative", "positive"])})
    rows = Dataset.from_dict({"text": list(texts), "label": list(labels)}, features)
    model = ORTModelForSequenceClassification.from_pretrained(exported.folder, subfolder="onnx", file_name="model.onnx")
    pipe = pipelines.pipeline("text-classification", model=model, tokenizer=tiny_tokenizer(), accelerator="ort")
    found = evaluate.evaluator("text-classification").compute(
        pipe, rows, metric=Accuracy(), label_mapping={"negative": 0, "positive": 1}
    )
    done = hfcompress("evaluate", "--model", exported.float, "--dataset", csv, "--json")
    assert done.json["results"][0]["quality"]["metrics"]["accuracy"] == pytest.approx(found["accuracy"])


def test_labels_that_differ_and_untrained_heads_are_all_named(teacher_dir, csv, tmp_path):
    three = save(tmp_path / "three", tiny_model(layers=1, num_labels=3, id2label={0: "a", 1: "b", 2: "c"}))
    turned = save(tmp_path / "turned", tiny_model(layers=1, id2label={0: "positive", 1: "negative"}))
    plain = save(tmp_path / "plain", tiny_model(layers=1).base_model)
    models = [word for folder in (teacher_dir, three, turned, plain) for word in ("--model", folder)]
    done = hfcompress("evaluate", *models, "--dataset", csv)
    assert (done.code, done.out) == (2, "")
    assert done.faults == [
        "3 things to change:",
        f"{three}: its labels are a, b, c, the first model's negative, positive.",
        f"{turned}: its labels are positive, negative, the first model's negative, positive.",
        f"{plain}: has no trained head for text-classification: there is nothing to evaluate.",
    ]


def test_validation_rows_without_training_rows(trained, tmp_path):
    for name in ("validation.csv", "test.csv"):
        folder = tmp_path / name.removesuffix(".csv")
        folder.mkdir()
        write_csv(folder / name, 14)
        done = hfcompress("evaluate", "--model", trained, "--dataset", folder, "--json")
        assert done.code == 0, done.err
        assert done.json["rows"] == 14


@pytest.mark.parametrize("count", [1, 5])
def test_rows_of_one_class_only(count, trained, tmp_path):
    rows = [row for row in sentences(40) if row[1] == "positive"][:count]
    data = tmp_path / "one-class.csv"
    data.write_text("text,label\n" + "\n".join(",".join(row) for row in rows))
    done = hfcompress("evaluate", "--model", trained, "--dataset", data, "--json")
    assert done.code == 0, done.err
    quality = done.json["results"][0]["quality"]
    assert quality["metrics"]["accuracy"] == pytest.approx(accuracy(trained, rows))
    assert quality["rows"] == count


def test_labels_that_the_model_does_not_know(trained, tmp_path):
    data = tmp_path / "spam.csv"
    data.write_text("text,label\nfine film,spam\ndull film,ham\n")
    done = hfcompress("evaluate", "--model", trained, "--dataset", data)
    assert done.code == 2
    assert "spam" in done.err
    assert "negative, positive" in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dataset", "x.csv"], "--model: is missing."),
        (["--model", "./nothing", "--dataset", "x.csv"], "./nothing: there is no such folder."),
        (["--model", "m", "--dataset", "d", "--seed", "-1"], "--seed: input should be greater than or equal to 0"),
        (["--model", "m", "--dataset", "d", "--modle", "x"], "--modle: there is no such flag. Did you mean '--model'?"),
    ],
)
def test_faults(words, said):
    done = hfcompress("evaluate", *words)
    assert done.code == 2
    assert said in done.err


def test_rows_that_training_saw(distilled, csv):
    _, folder = distilled
    words = ("evaluate", "--model", folder, "--dataset", csv)
    assert f"note: {folder.name} was made with rows that it is scored on here" in hfcompress(*words).err
    drawn = json.loads((folder / "compression.json").read_text())["data"]["held_out"]
    alike = hfcompress(*words, "--validation", drawn["rows"], "--seed", drawn["seed"])
    assert (alike.code, "was made with" in alike.err) == (0, False)
