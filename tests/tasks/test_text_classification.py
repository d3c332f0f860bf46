"""Text classification beyond one class a text: several labels, numbers, pairs, rows without labels, scores by hand."""

import json

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers.modeling_outputs import SequenceClassifierOutput as Output

from hfcompress.data import DataConfig, encode, load_data, load_validation
from hfcompress.errors import DataError
from hfcompress.measure.quality import difference, predict, score
from hfcompress.tasks import TASKS
from hfcompress.tasks.base import LabelOptions
from tests.tiny import tiny_model

TASK = TASKS["text-classification"]
NAN = float("nan")


def write(folder, labels, name="rows.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps({"text": f"text {i}", "label": y}) + "\n" for i, y in enumerate(labels)))
    return str(path)


def load(path, model=None, problem_type=None, **config):
    return load_data(DataConfig(path, **{"validation": 2, **config}), 0, TASK, model, problem_type)


def label_of(data, text):
    return next(row["labels"] for part in (data.train, data.validation) for row in part if row["text"] == text)


def refusal(*args, **kwargs):
    with pytest.raises(DataError) as error:
        load(*args, **kwargs)
    return str(error.value)


def test_lists_are_several_labels_at_once(tmp_path):
    data = load(write(tmp_path, [["b"], ["a", "b"], [], ["a"]] * 3))
    assert (data.label_names, data.problem_type) == (("a", "b"), "multi_label_classification")
    assert [label_of(data, f"text {i}") for i in range(4)] == [[0, 1], [1, 1], [0, 0], [1, 0]]
    assert (len(data.train), len(data.validation)) == (10, 2)


def test_numbers_that_are_not_whole_are_a_regression(tmp_path):
    data = load(write(tmp_path, [0.5, 1.0, 2.25] * 4))
    assert (data.label_names, data.problem_type) == (("value",), "regression")
    assert [label_of(data, f"text {i}") for i in range(3)] == [0.5, 1.0, 2.25]


@pytest.mark.parametrize(
    "said", [{"config": "regression"}, {"problem_type": "regression"}, {"model": ("LABEL_0",)}], ids=str
)
def test_whole_numbers_are_classes_unless_somebody_says_otherwise(tmp_path, said):
    path = write(tmp_path, [1, 2, 3, 4, 5] * 4)
    assert load(path).label_names == ("1", "2", "3", "4", "5")
    config = {"problem_type": said.pop("config")} if "config" in said else {}
    data = load_data(DataConfig(path, validation=2, **config), 0, TASK, said.get("model"), said.get("problem_type"))
    assert (data.label_names, data.problem_type) == (("value",), "regression")
    assert {type(label) for label in data.train["labels"]} == {float}


@pytest.mark.parametrize(
    ("labels", "config", "says"),
    [
        (["['a']", "['a', 'b']"] * 4, {}, "validation rows are texts that look like lists (the first is \"['a"),
        (
            ["x", "y"] * 4,
            {"problem_type": "regression"},
            "have a label that is no number (the first is row 0, from 0: 'x",
        ),
        (["x", "y"] * 4, {"problem_type": "multi_label_classification"}, "have labels that are not lists (the first"),
        ([["x"], ["y"]] * 4, {"problem_type": "single_label_classification"}, "takes one class a row, got ['x']"),
        (
            [0.5, 1.5] * 4,
            {"model": ("no", "yes")},
            "numbers (a regression), the model was trained with 2 labels (no, yes)",
        ),
        ([["x"], ["y"]] * 4, {"model": ("x", "z")}, "training rows have unknown labels: y. Allowed: x, z."),
        ([0.5, None] * 4, {}, "rows have no label"),
    ],
)
def test_labels_of_another_kind_are_refused(tmp_path, labels, config, says):
    assert says in refusal(write(tmp_path, labels), **config)


def test_to_evaluate_the_models_labels_are_taken(tmp_path):
    config = DataConfig(write(tmp_path, [["b"], []]))
    data = load_validation(config, ("c", "B", "a"), 0, TASK)
    assert list(data.validation["labels"]) == [[0, 1, 0], [0, 0, 0]]
    numbers = load_validation(DataConfig(write(tmp_path, [1, 2], "numbers.jsonl")), ("LABEL_0",), 0, TASK, "regression")
    assert list(numbers.validation["labels"]) == [1.0, 2.0]


@pytest.mark.parametrize(
    ("known", "unknown"), [(1, [-100, -100]), (0.5, [NAN, NAN]), ([0.0, 1.0, 1.0], [[NAN] * 3, [NAN] * 3])]
)
def test_unknown_labels_have_the_form_of_known_ones(known, unknown):
    np.testing.assert_equal(TASK.unknown_labels(Dataset.from_dict({"text": ["x", "y"]}), known), unknown)


def test_batches_hold_labels_that_models_take(tokenizer):
    for labels, dtype in (([0, 1], torch.int64), ([0.5, NAN], torch.float32), ([[0.0, 1.0], [NAN] * 2], torch.float32)):
        rows = encode(Dataset.from_dict({"text": ["the film", "dull"], "labels": labels}), TASK, tokenizer, None)
        batch = TASK.collator(tokenizer)(list(rows))
        assert batch["labels"].dtype == dtype
        np.testing.assert_equal(batch["labels"].tolist(), labels)
        assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]


def test_several_labels_are_rows_of_no_and_yes():
    outputs = Output(logits=torch.tensor([[2.0, -1.0], [0.5, 3.0]]))
    batch = {"labels": torch.tensor([[1.0, 0.0], [NAN, NAN]])}
    logits, labels = TASK.rows(outputs, batch)
    assert logits.tolist() == [[0.0, 2.0], [0.0, -1.0], [0.0, 0.5], [0.0, 3.0]]
    assert labels.tolist() == [1, 0, -100, -100]
    assert (TASK.count_rows(batch).item(), TASK.count_labels(batch).item()) == (4, 1)
    # The loss of one text: the mean of log(1 + e^-2) and log(1 + e^-1).
    assert TASK.known_loss(outputs, batch).item() == pytest.approx((np.log1p(np.exp(-2)) + np.log1p(np.exp(-1))) / 2)


def test_numbers_are_rows_of_one():
    outputs, batch = Output(logits=torch.tensor([[2.0], [0.5], [7.0]])), {"labels": torch.tensor([1.0, 1.0, NAN])}
    logits, labels = TASK.rows(outputs, batch)
    assert (logits.tolist(), labels) == ([[2.0], [0.5], [7.0]], None)
    assert (TASK.count_rows(batch).item(), TASK.count_labels(batch).item()) == (3, 2)
    assert TASK.known_loss(outputs, batch).item() == pytest.approx((1 + 0.25) / 2)


def test_classes_are_left_to_the_model():
    batch = {"labels": torch.tensor([1, -100])}
    assert not TASK.loss_is_ours(batch)
    assert TASK.loss_is_ours({"labels": torch.tensor([1.0, NAN])})
    assert (TASK.count_rows(batch).item(), TASK.count_labels(batch).item()) == (2, 1)


@pytest.mark.parametrize("kind", ["multi_label_classification", "regression"])
def test_the_known_loss_is_the_models_own_where_all_labels_are_known(kind, tokenizer):
    count = 3 if kind != "regression" else 1
    model = tiny_model(num_labels=count, problem_type=kind)
    batch = dict(tokenizer(["the film", "dull cold plot"], padding=True, return_tensors="pt"))
    batch["labels"] = torch.tensor([[1.0, 0, 1], [0, 0, 1]]) if count == 3 else torch.tensor([0.3, 2.0])
    outputs = model(**batch)
    torch.testing.assert_close(TASK.known_loss(outputs, batch), outputs.loss)


def test_scores_of_several_labels_by_hand():
    references = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 0]])
    answers = np.array([[2.0, -1, -1], [-1, 3, -2], [1, 1, 1], [-1, -1, -1]])
    found = TASK.metrics(answers, references)
    # Wrong: the third label of rows 0 (missed) and 2 (too much). Labels 0, 1: all right; label 2: F1 0.
    expected = {"accuracy": 10 / 12, "exact_match": 0.5, "f1_micro": 8 / 10, "f1_macro": 2 / 3}
    assert found == pytest.approx(expected)
    assert TASK.row_scores(answers, references).tolist() == pytest.approx([2 / 3, 1, 2 / 3, 1])
    assert TASK.main_of(found) == "accuracy"
    quality = score(answers, references, TASK)
    assert quality.value == pytest.approx(10 / 12)
    assert quality.interval[0] <= quality.value <= quality.interval[1]


def test_scores_of_numbers_by_hand():
    references, answers = np.array([1.0, 2.0, 3.0, 4.0]), np.array([[1.0], [2.0], [4.0], [3.0]])
    found = TASK.metrics(answers, references)
    # Spearman: 1 - 6 · 2 / (4 · 15); the same numbers as their ranks, so Pearson too.
    assert found == pytest.approx({"spearman": 0.8, "pearson": 0.8, "mean_squared_error": 0.5})
    assert TASK.main_of(found) == "spearman"
    assert TASK.row_scores(answers, references) is None
    assert TASK.metrics(np.ones((4, 1)), references)["spearman"] == 0.0


def test_intervals_of_a_metric_that_is_no_mean_resample_rows(monkeypatch):
    monkeypatch.setattr("hfcompress.measure.quality._FEWER_RESAMPLES", 200)
    random = np.random.default_rng(0)
    references = random.normal(size=300)
    better, worse = (references + random.normal(scale=scale, size=300) for scale in (0.5, 2.0))
    quality = score(better[:, None], references, TASK)
    assert quality.main == "spearman"
    assert quality.interval[0] < quality.value < quality.interval[1]
    assert 0.05 < quality.interval[1] - quality.interval[0] < 0.12  # (1 - r²) · 3.92 / √300 ≈ 0.045 … 0.1
    assert difference(better[:, None], worse[:, None], references, TASK)[1] < -0.2
    assert difference(better[:, None], better[:, None], references, TASK) == (0.0, 0.0)


@pytest.mark.parametrize(("labels", "count"), [([[1.0, 0, 0], [0, 1, 0]], 3), ([0.5, 1.5], 1)])
def test_answers_are_one_row_of_numbers_a_text(labels, count, tokenizer):
    rows = Dataset.from_dict({"text": ["dull", "a film is fine"], "text_pair": ["the end", "cold"], "labels": labels})
    model = tiny_model(num_labels=count)
    found = predict(model, tokenizer, rows, TASK, None, batch_size=2)
    with torch.inference_mode():
        alone = model(**tokenizer("dull", "the end", return_tensors="pt")).logits[0].numpy()
    assert found.shape == (2, count)
    np.testing.assert_allclose(found[0], alone, atol=1e-5)
    assert set(score(found, TASK.references(rows), TASK).metrics) >= {"accuracy" if count > 1 else "spearman"}


def test_labels_are_held_out_in_proportion_only_where_they_are_classes():
    assert TASK.stratify(Dataset.from_dict({"labels": ["a", "b"]})) == ["a", "b"]
    assert TASK.stratify(Dataset.from_dict({"labels": [[0], []]})) is None
    assert TASK.stratify(Dataset.from_dict({"labels": [0.5, 1.0]})) is None


def test_label_options_may_know_nothing():
    parts = {"validation": Dataset.from_dict({"text": ["x", "y"], "labels": [[0], [1]]})}
    assert TASK.encode_labels(parts, LabelOptions()).names == ("0", "1")
