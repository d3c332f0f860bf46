"""Tasks on words: which logits are compared, and scores by hand, against transformers' own loss, and in any parts."""

import math

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers.utils.generic import ModelOutput

from hfcompress.measure.quality import difference, predict, score
from hfcompress.tasks import TASKS, language_modeling
from hfcompress.tasks.language_modeling import TokenCollator, block_length
from tests.tiny import sentences, tiny_head, tiny_tokenizer

TASK_HEADS = [
    ("fill-mask", "bert", "ForMaskedLM"),
    ("fill-mask", "roberta", "ForMaskedLM"),
    ("text-generation", "gpt2", "ForCausalLM"),
    ("text-generation", "llama", "ForCausalLM"),
    ("text2text-generation", "t5", "ForSeq2SeqLM"),
    ("text2text-generation", "bart", "ForSeq2SeqLM"),
]
each = pytest.mark.parametrize(("name", "family", "head"), TASK_HEADS, ids=[f"{n}-{f}" for n, f, _ in TASK_HEADS])
TOKENIZER = tiny_tokenizer()
TEXTS = [text for text, _ in sentences(10)]


def data(task, texts=TEXTS):
    targets = {"labels": [" ".join(text.split()[:4]) for text in texts]} if len(task.columns) > 1 else {}
    return Dataset.from_dict({"text": texts, **targets})


def batch_of(task, texts=TEXTS, max_length=None):
    return task.collator(TOKENIZER)(list(task.encode(data(task, texts), TOKENIZER, max_length)))


def random_answer(vocabulary=11):
    """Labels of two texts and random logits for them."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([[3, -100, 7, 2], [-100, 5, -100, -100]])
    return torch.randn(2, 4, vocabulary, generator=generator), labels


@pytest.mark.parametrize("name", ["fill-mask", "text2text-generation"])
def test_rows_are_the_labelled_places(name):
    logits, labels = random_answer()
    rows, wanted = TASKS[name].rows(ModelOutput(logits=logits), {"labels": labels})
    assert wanted.tolist() == [3, 7, 2, 5]
    assert torch.equal(rows, torch.stack([logits[0, 0], logits[0, 2], logits[0, 3], logits[1, 1]]))


def test_rows_of_generation_are_those_before_the_labelled_places():
    logits, labels = random_answer()
    rows, wanted = TASKS["text-generation"].rows(ModelOutput(logits=logits), {"labels": labels})
    assert wanted.tolist() == [7, 2, 5]
    assert torch.equal(rows, torch.stack([logits[0, 1], logits[0, 2], logits[1, 0]]))


@each
def test_rows_only_select_and_are_as_many_as_counted(name, family, head):
    task, (logits, labels) = TASKS[name], random_answer()
    rows, wanted = task.rows(ModelOutput(logits=logits), {"labels": labels})
    narrow, same = task.rows(ModelOutput(logits=logits[..., :3]), {"labels": labels})
    assert torch.equal(narrow, rows[:, :3])
    assert torch.equal(same, wanted)
    assert task.count_rows({"labels": labels}) == task.count_labels({"labels": labels}) == len(rows)


@each
def test_the_mean_over_the_rows_is_transformers_own_loss(name, family, head):
    task, model = TASKS[name], tiny_head(family, head)
    batch = batch_of(task)
    outputs = model(**batch)
    rows, wanted = task.rows(outputs, batch)
    assert len(rows) == task.count_labels(batch)
    torch.testing.assert_close(torch.nn.functional.cross_entropy(rows, wanted), outputs.loss)


@each
def test_cross_entropy_of_one_text_is_transformers_own_loss(name, family, head):
    task, model = TASKS[name], tiny_head(family, head)
    own = model(**batch_of(task, TEXTS[:1])).loss.item()
    rows = data(task, TEXTS[:1])
    answers = predict(model, TOKENIZER, rows, task, None)
    found = task.metrics(answers, task.references(rows))
    assert found["cross_entropy"] == pytest.approx(own, rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(own), rel=1e-5)


@each
def test_answers_do_not_depend_on_parts_or_batches(name, family, head, monkeypatch):
    task, model = TASKS[name], tiny_head(family, head)
    rows = data(task)
    whole = predict(model, TOKENIZER, rows, task, None, batch_size=10)
    assert whole.shape == (10, 3)
    monkeypatch.setattr(language_modeling, "_CHUNK", 64 * 3)
    np.testing.assert_allclose(predict(model, TOKENIZER, rows, task, None, batch_size=10), whole, rtol=1e-6)
    np.testing.assert_allclose(predict(model, TOKENIZER, rows, task, None, batch_size=3), whole, rtol=1e-4)


@each
def test_a_model_is_scored_with_intervals(name, family, head):
    task = TASKS[name]
    rows = data(task)
    one, other = (predict(tiny_head(family, head, seed=seed), TOKENIZER, rows, task, None) for seed in (0, 1))
    quality = score(one, task.references(rows), task)
    assert quality.main == "accuracy"
    assert quality.interval[0] <= quality.value <= quality.interval[1]
    assert quality.rows == 10
    assert difference(one, one, task.references(rows), task) == (0.0, 0.0)
    low, high = difference(one, other, task.references(rows), task)
    assert low <= high


def test_sums_and_metrics_are_those_computed_by_hand():
    task = TASKS["fill-mask"]
    # Of the vocabulary's two words, the first has the share 1/4 everywhere.
    logits = torch.tensor([0.0, math.log(3.0)]).expand(2, 3, 2)
    labels = torch.tensor([[0, 1, 1], [-100, 0, -100]])
    answers = task.answers(ModelOutput(logits=logits), {"labels": labels})
    np.testing.assert_allclose(answers, [[math.log(4) + 2 * math.log(4 / 3), 2, 3], [math.log(4), 0, 1]], rtol=1e-6)
    metrics = task.metrics(answers, np.zeros(2))
    cross_entropy = (2 * math.log(4) + 2 * math.log(4 / 3)) / 4
    assert metrics == pytest.approx(
        {"accuracy": 0.5, "cross_entropy": cross_entropy, "perplexity": math.exp(cross_entropy)}, rel=1e-6
    )


def test_nothing_to_say_and_a_hopeless_model_give_finite_scores():
    task = TASKS["fill-mask"]
    assert task.metrics(np.zeros((2, 3)), np.zeros(2)) == {"accuracy": 0, "cross_entropy": 0, "perplexity": 1}
    assert math.isfinite(task.metrics(np.array([[1e6, 0.0, 1.0]]), np.zeros(1))["perplexity"])


def test_logits_in_half_precision_are_scored_in_full():
    logits, labels = random_answer()
    task = TASKS["fill-mask"]
    half = logits.bfloat16()
    found = task.answers(ModelOutput(logits=half), {"labels": labels})
    np.testing.assert_array_equal(found, task.answers(ModelOutput(logits=half.float()), {"labels": labels}))


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_stands_at_the_end_and_is_known_by_its_place(side):
    tokenizer = tiny_tokenizer()
    tokenizer.padding_side = side
    rows = [
        {"input_ids": [7], "attention_mask": [1], "labels": [0], "row": 4},
        {"input_ids": [8, 0, 9], "attention_mask": [1, 1, 1], "labels": [0, 1, -100], "row": 4},
    ]
    batch = TokenCollator(tokenizer)(rows)
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[7, 0, 0], [8, 0, 9]],
        "attention_mask": [[1, 0, 0], [1, 1, 1]],
        "labels": [[0, -100, -100], [0, 1, -100]],
    }


@pytest.mark.parametrize(("eos", "filler"), [("stop", 5), (None, 0)])
def test_a_tokenizer_without_a_padding_token_is_served_and_stays_as_it_is(eos, filler):
    tokenizer = tiny_tokenizer(extra=["stop"])
    tokenizer.pad_token, tokenizer.eos_token = None, eos
    size, special = len(tokenizer), tokenizer.special_tokens_map
    rows = [{"input_ids": [7], "attention_mask": [1]}, {"input_ids": [8, 9], "attention_mask": [1, 1]}]
    batch = TokenCollator(tokenizer)(rows)
    assert batch["input_ids"].tolist() == [[7, filler], [8, 9]]
    assert batch["attention_mask"].tolist() == [[1, 0], [1, 1]]
    assert (len(tokenizer), tokenizer.special_tokens_map, tokenizer.pad_token) == (size, special, None)


@pytest.mark.parametrize(
    ("limit", "asked", "length"), [(64, None, 64), (64, 20, 20), (64, 100, 64), (10**30, None, 512), (10**30, 600, 600)]
)
def test_a_block_is_as_long_as_asked_and_never_longer_than_the_tokenizer_allows(limit, asked, length):
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = limit
    assert block_length(tokenizer, asked) == length
