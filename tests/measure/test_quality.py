"""Quality: scores by hand, intervals that hold them, and predictions equal to one row at a time."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hfcompress.measure.quality import difference, predict, score
from hfcompress.tasks import TASKS
from tests.tiny import FAMILIES, sentences, tiny_head, tiny_model, tiny_tokenizer

TASK = TASKS["text-classification"]


def logits_of(answers, classes=2):
    """Logits whose highest is the answer of each row."""
    return np.eye(classes)[answers]


def test_score_by_hand():
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    quality = score(logits_of([0, 0, 1, 1, 1, 1, 0, 0]), labels, TASK)
    assert quality.metrics["accuracy"] == quality.value == 5 / 8
    # Class 0: precision 2/4, recall 2/3, F1 4/7; class 1: precision 3/4, recall 3/5, F1 2/3.
    assert quality.metrics["f1_macro"] == pytest.approx((4 / 7 + 2 / 3) / 2)
    assert (quality.main, quality.rows) == ("accuracy", 8)
    assert set(quality.to_dict()) == {"metrics", "main", "interval", "rows"}


def test_interval_is_that_of_the_binomial_distribution():
    # 400 rows, 80 % right: 1.96 · √(0.8 · 0.2 / 400) = 0.0392 on either side.
    labels = np.zeros(400, dtype=int)
    low, high = score(logits_of([0] * 320 + [1] * 80), labels, TASK).interval
    assert (low, high) == (pytest.approx(0.7608, abs=0.006), pytest.approx(0.8392, abs=0.006))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40), st.integers(0, 99))
def test_interval_holds_the_value_and_stays_in_range(rows, seed):
    labels, answers = np.array(rows).T
    quality = score(logits_of(answers, 3), labels, TASK, seed)
    low, high = quality.interval
    assert 0 <= low <= quality.value <= high <= 1
    assert quality.value == np.mean(labels == answers)


@pytest.mark.parametrize(("answers", "value"), [([1] * 9, 1.0), ([0] * 9, 0.0), ([1], 1.0), ([0], 0.0)])
def test_constant_rows_have_an_interval_without_width(answers, value):
    assert score(logits_of(answers), np.ones(len(answers), dtype=int), TASK).interval == (value, value)


def test_intervals_depend_on_the_seed_alone():
    labels = np.arange(997) % 2
    logits = logits_of((np.arange(997) // 3) % 2)
    intervals = [score(logits, labels, TASK, seed).interval for seed in (0, 0, 1, 2, 3)]
    assert intervals[0] == intervals[1]
    assert len(set(intervals)) > 1


def test_difference_by_hand():
    labels = np.zeros(100, dtype=int)
    first = logits_of([0] * 60 + [1] * 40)
    second = logits_of([0] * 70 + [1] * 30)  # right where the first is, and on ten rows more
    low, high = difference(first, second, labels, TASK)
    # Paired: the mean of ten ones and ninety zeros, 1.96 · √(0.1 · 0.9 / 100) = 0.059; unpaired it would be 0.13.
    assert (low, high) == (pytest.approx(0.04, abs=0.011), pytest.approx(0.16, abs=0.011))
    backwards = difference(second, first, labels, TASK)
    assert backwards == (pytest.approx(-high, abs=0.02), pytest.approx(-low, abs=0.02))
    assert difference(first, first, labels, TASK) == (0.0, 0.0)


@pytest.fixture(scope="module")
def rows():
    texts, names = zip(*sentences(23), strict=True)
    return Dataset.from_dict({"text": list(texts), "labels": [int(name == "positive") for name in names]})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_predictions_are_those_of_one_row_at_a_time_in_their_order(family, batch_size, rows):
    model, tokenizer = tiny_model(family, layers=2).train(), tiny_tokenizer()
    found = predict(model, tokenizer, rows, TASK, max_length=12, batch_size=batch_size)
    assert not model.training
    for row, text in zip(found, rows["text"], strict=True):
        ids = tokenizer(text, truncation=True, max_length=12, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            alone = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].numpy()
        np.testing.assert_allclose(row, alone, atol=1e-5)
    assert found.shape == (23, 2)
    assert found.dtype == np.float32


def test_predictions_of_pairs(rows):
    model, tokenizer = tiny_model(layers=1), tiny_tokenizer()
    pairs = rows.add_column("text_pair", rows["text"][::-1])
    found = predict(model, tokenizer, pairs, TASK, max_length=None, batch_size=5)
    with torch.inference_mode():
        alone = model(**tokenizer(rows["text"][3], rows["text"][-4], return_tensors="pt")).logits[0].numpy()
    np.testing.assert_allclose(found[3], alone, atol=1e-5)
    assert not np.allclose(found[3], predict(model, tokenizer, rows, TASK, max_length=None)[3])


def test_predicting_shows_a_bar_only_when_asked(rows, capsys):
    predict(tiny_model(layers=1), tiny_tokenizer(), rows, TASK, 8)
    assert "evaluate" not in capsys.readouterr().err
    predict(tiny_model(layers=1), tiny_tokenizer(), rows, TASK, 8, progress=True)
    assert "evaluate" in capsys.readouterr().err


@pytest.mark.parametrize("pairs", [False, True], ids=["texts", "pairs"])
def test_gpt2_is_asked_without_kinds_of_segments_as_its_tokenizer_says(pairs):
    tokenizer = tiny_tokenizer()
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    model = tiny_head("gpt2", "ForSequenceClassification", pad_token_id=tokenizer.pad_token_id).eval()
    texts = [text for text, _ in sentences(6)]
    others = [text for text, _ in sentences(6, seed=1)] if pairs else [None] * 6
    rows = Dataset.from_dict({"text": texts, **({"text_pair": others} if pairs else {})})
    answers = predict(model, tokenizer, rows, TASK, 64)
    for text, other, answer in zip(texts, others, answers, strict=True):
        alone = model(**tokenizer(text, other, return_tensors="pt", return_token_type_ids=False)).logits[0]
        np.testing.assert_allclose(answer, alone.detach().numpy(), atol=1e-5)
