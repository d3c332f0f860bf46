"""Rows that only the teacher speaks on: chosen like the training rows, with labels that say so."""

import json

import numpy as np
import pytest

from hfcompress.data import DataConfig, load_data
from hfcompress.errors import DataError
from hfcompress.tasks import TASKS

TASK = TASKS["text-classification"]


def write(folder, records, name="rows.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


@pytest.fixture
def rows(tmp_path):
    return write(tmp_path, [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(20)])


def more(folder, count=30, **columns):
    records = [
        {"text": f"more {i}", **{name: values[i % len(values)] for name, values in columns.items()}}
        for i in range(count)
    ]
    return write(folder, records, "more.jsonl")


def load(rows, seed=0, **config):
    return load_data(DataConfig(rows, validation=4, **config), seed, TASK)


def refusal(rows, **config):
    with pytest.raises(DataError) as error:
        load(rows, **config)
    return str(error.value)


def test_all_rows_are_added_with_unknown_labels(tmp_path, rows):
    data = load(rows, unlabeled_dataset=more(tmp_path, label=["a", "zzz"]))
    assert data.unlabeled.column_names == ["text", "labels"]
    assert list(data.unlabeled["text"]) == [f"more {i}" for i in range(30)]
    assert set(data.unlabeled["labels"]) == {-100}
    together = data.with_unlabeled
    assert list(together["text"]) == [*data.train["text"], *data.unlabeled["text"]]
    assert list(together["labels"]) == [*data.train["labels"], *[-100] * 30]
    assert together.features == data.train.features


def test_without_them_training_rows_are_all_there_is(rows):
    data = load(rows)
    assert data.unlabeled is None
    assert data.with_unlabeled is data.train


def test_they_are_part_of_the_fingerprint(tmp_path, rows):
    assert load(rows).fingerprint != load(rows, unlabeled_dataset=more(tmp_path)).fingerprint


@pytest.mark.parametrize(("ratio", "count"), [(1.0, 16), (0.5, 8), (0.01, 1), (1.875, 30)])
def test_a_ratio_draws_rows_by_the_seed(tmp_path, rows, ratio, count):
    path = more(tmp_path)
    texts = [
        list(load(rows, seed, unlabeled_dataset=path, unlabeled_ratio=ratio).unlabeled["text"]) for seed in (0, 0, 1)
    ]
    assert len(texts[0]) == len(set(texts[0])) == count
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_where_keeps_its_own_rows_and_leaves_the_training_rows_alone(tmp_path, rows):
    path = more(tmp_path, source=["x", "y", "z"])
    data = load(rows, unlabeled_dataset=path, unlabeled_where={"source": "y"})
    assert list(data.unlabeled["text"]) == [f"more {i}" for i in range(1, 30, 3)]
    assert len(data.train) == 16


def test_where_of_the_training_rows_is_not_asked_of_them(tmp_path):
    path = write(tmp_path, [{"text": f"text {i}", "label": i % 2, "year": i // 10} for i in range(20)])
    data = load(path, where={"year": 1}, unlabeled_dataset=more(tmp_path))
    assert (len(data.train), len(data.unlabeled)) == (6, 30)


def test_the_text_column_is_the_training_rows_or_its_own(tmp_path):
    rows = write(tmp_path, [{"body": f"b{i}", "text": f"t{i}", "label": i % 2} for i in range(20)])
    other = write(tmp_path, [{"body": f"B{i}", "text": f"T{i}", "words": f"W{i}"} for i in range(3)], "other.jsonl")
    data = load(rows, text_column="body", unlabeled_dataset=other)
    assert list(data.unlabeled["text"]) == ["B0", "B1", "B2"]
    data = load(rows, text_column="body", unlabeled_dataset=other, unlabeled_text_column="words")
    assert list(data.unlabeled["text"]) == ["W0", "W1", "W2"]
    assert {text[0] for text in data.train["text"]} == {"b"}
    plain = more(tmp_path, 3)
    assert list(load(rows, text_column="body", unlabeled_dataset=plain).unlabeled["text"]) == [
        "more 0",
        "more 1",
        "more 2",
    ]


def test_pairs_need_both_texts(tmp_path):
    rows = write(tmp_path, [{"text": f"t{i}", "other": f"o{i}", "label": i % 2} for i in range(20)])
    path = more(tmp_path, 2, other=["p"])
    assert list(load(rows, text_pair_column="other", unlabeled_dataset=path).unlabeled["text_pair"]) == ["p", "p"]
    assert "no column 'other'. Allowed: text." in refusal(
        rows, text_pair_column="other", unlabeled_dataset=more(tmp_path)
    )


@pytest.mark.parametrize(
    ("labels", "unknown"), [([0.5, 1.5], float("nan")), ([["a"], ["b"]], [float("nan")] * 2), ([0, 1], -100)]
)
def test_labels_of_every_kind_can_be_unknown(tmp_path, labels, unknown):
    rows = write(tmp_path, [{"text": f"text {i}", "label": labels[i % 2]} for i in range(20)])
    together = load(rows, unlabeled_dataset=more(tmp_path, 3)).with_unlabeled
    np.testing.assert_equal(list(together["labels"][-3:]), [unknown] * 3)
    assert len(together) == 19


@pytest.mark.parametrize(
    ("records", "config", "says"),
    [
        (
            [{"words": "x"}],
            {},
            "has no column for the text that I know. Its columns: words. Pass --unlabeled-text-column.",
        ),
        (
            [{"text": "x"}],
            {"unlabeled_text_column": "txt"},
            "there is no column 'txt'. Did you mean 'text'? Allowed: text.",
        ),
        (
            [{"text": "x"}, {"text": ""}],
            {},
            "1 of the 2 unlabelled rows have no text (rows 1, from 0; the first has '')",
        ),
        (
            [{"text": "x"}],
            {"unlabeled_where": {"year": 1}},
            "unlabeled_where: there is no column 'year'. Allowed: text.",
        ),
        ([{"text": "x"}], {"unlabeled_where": {"text": "y"}}, "has no unlabelled rows that match `unlabeled_where`."),
        ([{"text": "x"}], {"train_split": "train", "unlabeled_ratio": 1.0}, "unlabeled_ratio: asks for 16 rows, "),
        ([{"text": "x"}] * 3, {"unlabeled_ratio": 0.5}, "has 3. Give at most 0.187, or leave it out."),
    ],
)
def test_unusable_rows_are_refused(tmp_path, rows, records, config, says):
    assert says in refusal(rows, unlabeled_dataset=write(tmp_path, records, "bad.jsonl"), **config)


def test_a_file_that_is_not_there_is_named(tmp_path, rows):
    assert refusal(rows, unlabeled_dataset=str(tmp_path / "no.csv")).endswith(
        "no.csv: there is no such file or folder."
    )


def test_texts_that_are_held_out_and_their_variants_are_left_out(tmp_path, rows):
    held_out = list(load(rows).validation["text"])
    records = [
        {"text": held_out[0], "augmented_from": "other"},
        {"text": "a variant", "augmented_from": held_out[1]},
        {"text": "another variant", "augmented_from": load(rows).train["text"][0]},
    ]
    data = load(rows, unlabeled_dataset=write(tmp_path, records, "variants.jsonl"))
    assert list(data.unlabeled["text"]) == ["another variant"]


def test_a_file_of_nothing_but_held_out_texts_has_no_rows(tmp_path, rows):
    held_out = [{"text": "x", "augmented_from": text} for text in load(rows).validation["text"]]
    assert "has no unlabelled rows" in refusal(rows, unlabeled_dataset=write(tmp_path, held_out, "variants.jsonl"))
