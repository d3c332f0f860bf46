"""Data: the right columns, no row without a text, a fair split that depends on the seed alone, and tokens."""

import json
from collections import Counter

import datasets
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hfcompress.data import DataConfig, load_data, load_validation
from hfcompress.errors import DataError
from hfcompress.tasks import TASKS

TASK = TASKS["text-classification"]


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def write(folder, records, name="rows.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def labelled(count, classes="ab", **more):
    return [{"text": f"text {i}", "label": classes[i % len(classes)], **more} for i in range(count)]


def load(path, seed=0, model=None, **config):
    return load_data(DataConfig(dataset=str(path), **config), seed, TASK, model)


def refusal(path, **config):
    with pytest.raises(DataError) as error:
        load(path, **config)
    return str(error.value)


@pytest.mark.parametrize(
    ("columns", "config", "text"),
    [
        (["text", "label"], {}, "text"),
        (["sentence", "idx", "labels"], {}, "sentence"),
        (["review", "target"], {}, "review"),
        (["sentence1", "sentence2", "label"], {}, "sentence1"),
        (["body", "text", "label"], {"text_column": "body"}, "body"),
        (["text", "label", "stars"], {"label_column": "label"}, "text"),
        (["a", "b"], {"text_column": "a", "label_column": "b"}, "a"),
        (["label", "text"], {"text_column": "label", "label_column": "text"}, "label"),
        (["labels", "text_pair", "text"], {"text_column": "labels", "label_column": "text"}, "labels"),
    ],
)
def test_columns_are_found_or_given(tmp_path, columns, config, text):
    classes = config.get("label_column") or next(name for name in columns if name in ("label", "labels", "target"))
    records = [{name: f"{name} {i % 2 if name == classes else i}" for name in columns} for i in range(20)]
    data = load(write(tmp_path, records), validation=2, **config)
    assert data.train.column_names == ["text", "labels"]
    assert set(data.train["text"]) | set(data.validation["text"]) == {f"{text} {i}" for i in range(20)}
    assert data.label_names == (f"{classes} 0", f"{classes} 1")


def test_pairs_keep_both_texts_in_their_roles(tmp_path):
    records = [{"question": f"q{i}", "sentence": f"s{i}", "label": i % 2} for i in range(10)]
    path = write(tmp_path, records)
    data = load(path, text_column="question", text_pair_column="sentence")
    assert data.train.column_names == ["text", "text_pair", "labels"]
    assert all(row["text"][1:] == row["text_pair"][1:] for row in data.train)
    assert set(data.train["text"]) < {f"q{i}" for i in range(10)}


@pytest.mark.parametrize(
    ("columns", "config", "says"),
    [
        (["text", "label"], {"text_column": "txt"}, ["no column 'txt'. Did you mean 'text'? Allowed: label, text."]),
        (["a", "label"], {}, ["no column for the text that I know. Its columns: a, label. Pass --text-column."]),
        (["text", "b"], {}, ["no column for the labels that I know. Its columns: text, b. Pass --label-column."]),
        (["text", "title", "label"], {}, ["several columns that may be the text: text, title. Pass --text-column."]),
        (["text", "label", "class"], {}, ["may be the labels: label, class. Pass --label-column."]),
        (
            ["text", "label"],
            {"text_pair_column": "text"},
            ["one column cannot serve twice: text 'text', text_pair 'text'"],
        ),
        (["text", "label"], {"where": {"lable": "a"}}, ["where: there is no column 'lable'. Did you mean 'label'?"]),
        (
            ["a", "b"],
            {"text_pair_column": "aa", "where": {"z": 1}},
            ["the text that I know", "no column 'aa'", "the labels that I know", "where: there is no column 'z'"],
        ),
    ],
)
def test_every_fault_of_the_columns_is_said_at_once(tmp_path, columns, config, says):
    lines = refusal(write(tmp_path, [dict.fromkeys(columns, "x")]), **config).splitlines()
    assert len(lines) == len(says)
    assert all(words in line for words, line in zip(says, lines, strict=True))


@pytest.mark.parametrize(
    ("ending", "content", "got"),
    [
        ("csv", "text,label\n,a\nx,b\n", "1 of the 2 training rows have no text (rows 0, from 0; the first has '')"),
        (
            "csv",
            "text,label\nx,a\n   ,b\n",
            "1 of the 2 training rows have no text (rows 1, from 0; the first has '   ')",
        ),
        ("csv", "text,label\n1,a\n2,b\n", "2 of the 2 training rows have no text (rows 0, 1, from 0; the first has 1)"),
        ("json", '[{"text": null, "label": 1}, {"text": "x", "label": 0}]', "(rows 0, from 0; the first has None)"),
        ("json", '[{"text": NaN, "label": 1}, {"text": "x", "label": 0}]', "(rows 0, from 0; the first has None)"),
        ("json", '[{"text": ["x"], "label": 1}, {"text": ["y"], "label": 0}]', "the first has ['x'])"),
        (
            "csv",
            "text,label\n" + ",a\n" * 7 + "x,b\n",
            "7 of the 8 training rows have no text (rows 0, 1, 2, 3, 4 …, from",
        ),
    ],
)
def test_rows_without_a_text_are_refused_with_their_numbers(tmp_path, ending, content, got):
    path = tmp_path / f"rows.{ending}"
    path.write_text(content)
    said = refusal(path)
    assert got in said
    assert said.endswith("Fill them, or leave them out with --drop-missing.")


def test_numbers_among_texts_are_texts_in_a_csv(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n7,a\nx,b\n8,a\ny,b\n")
    data = load(path, validation=2)
    assert set(data.train["text"]) | set(data.validation["text"]) == {"7", "x", "8", "y"}


def test_rows_without_a_text_can_be_dropped_from_both_parts(tmp_path):
    train = write(tmp_path, [*labelled(4), {"text": " ", "label": "a"}, {"text": None, "label": "b"}])
    held_out = write(tmp_path, [{"text": "", "label": "a"}, *labelled(2)], "held_out.jsonl")
    data = load(train, validation=held_out, drop_missing=True)
    assert list(data.train["text"]) == ["text 0", "text 1", "text 2", "text 3"]
    assert list(data.validation["text"]) == ["text 0", "text 1"]
    assert data.overlap == 2


def test_a_pair_without_its_second_text_is_missing_too(tmp_path):
    records = labelled(10, other="x")
    records[3]["other"] = ""
    path = write(tmp_path, records)
    assert "(rows 3, from 0; the first has '')" in refusal(path, text_pair_column="other")
    data = load(path, text_pair_column="other", drop_missing=True)
    assert len(data.train) + len(data.validation) == 9


def test_where_keeps_the_rows_that_match_all_its_columns(tmp_path):
    records = [{**row, "source": "xy"[i // 10], "year": 2000 + i // 5} for i, row in enumerate(labelled(20))]
    path = write(tmp_path, records)
    for year in (2001, "2001"):
        data = load(path, where={"source": "x", "year": year}, validation=2)
        assert set(data.train["text"]) | set(data.validation["text"]) == {f"text {i}" for i in range(5, 10)}
    assert refusal(path, where={"source": "z"}).endswith("has no training rows that match `where`.")


def test_nothing_left_is_refused(tmp_path):
    assert "has no training rows." in refusal(write(tmp_path, [{"text": "", "label": "a"}]), drop_missing=True)


@pytest.mark.parametrize(
    ("splits", "config", "train", "held_out"),
    [
        (["train", "validation", "test"], {}, "train", "validation"),
        (["train", "test"], {}, "train", "test"),
        (["train", "validation", "test"], {"validation": "test"}, "train", "test"),
        (["train", "test"], {"train_split": "test", "validation": "train"}, "test", "train"),
    ],
)
def test_validation_is_the_split_that_fits_or_was_named(tmp_path, monkeypatch, splits, config, train, held_out):
    for name in splits:
        write(tmp_path, [{"text": f"{name} {i}", "label": i % 2} for i in range(4)], f"{name}.jsonl")
    (tmp_path / "elsewhere" / "test").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")  # a folder of the split's name does not stand in for the split
    data = load("..", **config)
    assert list(data.train["text"]) == [f"{train} {i}" for i in range(4)]
    assert list(data.validation["text"]) == [f"{held_out} {i}" for i in range(4)]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"train_split": "trian"}, "there is no split 'trian'. Did you mean 'train'? Allowed: train."),
        ({"validation": "dev"}, "there is no split 'dev'. Allowed: train."),
        ({"validation": "absent.csv"}, "there is no split 'absent.csv'. Allowed: train."),
        *[
            ({"validation": value}, f"validation: cannot hold out {value} of 20 rows. Give a fraction below 1, or")
            for value in (-1, 20, 100, 0.999, "1e-9", "nan", "inf", float("nan"), float("inf"), "-0.5")
        ],
    ],
)
def test_a_validation_part_that_cannot_be_is_refused(tmp_path, config, says):
    assert says in refusal(write(tmp_path, labelled(20)), **config)


def test_a_validation_file_is_checked_like_the_training_file(tmp_path):
    train, broken = write(tmp_path, labelled(4)), tmp_path / "held_out.csv"
    broken.write_text('text,label\na,b,c,d\n"x\n')
    assert refusal(train, validation=str(broken)).startswith(f"{broken}: cannot be read as a data set: ")
    broken.write_text("body,label\nx,a\n")
    assert "its validation rows have no column text." in refusal(train, validation=str(broken))
    broken.write_text("text,label\n,a\n")
    assert "1 of the 1 validation rows have no text" in refusal(train, validation=str(broken))


@pytest.mark.parametrize(
    ("validation", "size"), [(None, 6), (0.25, 15), ("0.25", 15), (7, 7), ("7", 7), (0.5, 30), (1, 1), (58, 58)]
)
def test_a_fraction_or_a_count_of_rows_is_held_out(tmp_path, validation, size):
    data = load(write(tmp_path, labelled(60)), validation=validation)
    assert (len(data.train), len(data.validation)) == (60 - size, size)


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(40, 80),
    fraction=st.floats(0.2, 0.6),
    classes=st.sampled_from(["ab", "aab", "aabbc"]),
    seed=st.integers(0, 99),
)
def test_held_out_rows_are_stratified_and_disjoint_from_the_others(count, fraction, classes, seed):
    rows = Dataset.from_list(labelled(count, classes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hfcompress.data.loading.load_splits", lambda source: datasets.DatasetDict(train=rows))
        data = load("rows", seed, validation=fraction)
    assert sorted([*data.train["text"], *data.validation["text"]]) == sorted(f"text {i}" for i in range(count))
    assert data.overlap == 0
    whole = Counter(classes[i % len(classes)] for i in range(count))
    for number, found in Counter(data.validation["labels"]).items():
        assert abs(found - whole[data.label_names[number]] * len(data.validation) / count) <= 1


def test_held_out_rows_are_a_function_of_the_seed(tmp_path):
    path = write(tmp_path, labelled(60))
    found = [load(path, seed).fingerprint for seed in (0, 1, 2, 0, 1, 2)]
    assert found[:3] == found[3:]
    assert len(set(found)) == 3


def test_a_class_too_small_to_stratify_is_still_split(tmp_path):
    path = write(tmp_path, [*labelled(20), {"text": "odd", "label": "c"}])
    splits = [load(path, seed, label_names=["a", "b", "c"]) for seed in range(3)]
    assert all(len(data.validation) == 2 for data in splits)


@pytest.mark.parametrize("most", [8, 54, 1000])
def test_training_on_fewer_rows_leaves_the_held_out_ones_alone(tmp_path, most):
    path = write(tmp_path, labelled(60))
    whole, part = load(path), load(path, max_train_samples=most)
    assert len(part.train) == min(most, 54)
    assert set(part.train["text"]) <= set(whole.train["text"])
    assert list(part.validation["text"]) == list(whole.validation["text"])
    assert part.fingerprint == load(path, max_train_samples=most).fingerprint


@pytest.mark.parametrize(
    ("records", "config", "names", "numbers"),
    [
        ([("x", "b"), ("y", "b")], {}, ("b", "a"), [0, 0]),
        ([("x", "B"), ("y", "A")], {}, ("b", "a"), [0, 1]),
        ([("x", 5), ("y", 2)], {}, ("1", "2", "3", "4", "5"), [4, 1]),
        ([("x", 1), ("y", 1)], {}, ("no", "yes"), [1, 1]),
        ([("x", 0), ("y", 1)], {"label_names": ["good", "bad"]}, ("BAD", "GOOD"), [1, 0]),
        ([("x", 0), ("y", 1)], {}, ("LABEL_0", "LABEL_1"), [0, 1]),
    ],
)
def test_to_evaluate_not_every_label_need_occur(tmp_path, records, config, names, numbers):
    path = write(tmp_path, [{"text": text, "label": label} for text, label in records])
    data = load_validation(DataConfig(path, **config), names, seed=0, task=TASK)
    assert list(data.validation["labels"]) == numbers
    assert tuple(name.casefold() for name in data.label_names) == tuple(name.casefold() for name in names)


def test_texts_that_stand_in_both_parts_are_counted(tmp_path):
    train = write(tmp_path, labelled(10))
    held_out = write(tmp_path, labelled(13)[7:], "held_out.jsonl")
    assert load(train, validation=held_out).overlap == 3


def test_stars_need_no_model(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "".join(f"text {i},{i % 5 + 1}\n" for i in range(50)))
    data = load(path)
    assert data.label_names == ("1", "2", "3", "4", "5")
    assert all(int(row["text"][5:]) % 5 == row["labels"] for row in data.train)


def test_the_fingerprint_depends_on_the_rows_and_the_split_alone(tmp_path):
    lines = write(tmp_path, labelled(20, note="x"))
    table = tmp_path / "moved.csv"
    table.write_text("label,text\n" + "".join(f"{row['label']},{row['text']}\n" for row in labelled(20)))
    assert load(lines).fingerprint == load(table).fingerprint
    assert load(lines).fingerprint != load(lines, seed=1).fingerprint


@pytest.mark.parametrize("validation", ["0.25", 12])
def test_evaluation_holds_out_the_rows_that_training_held_out(csv, validation):
    config = DataConfig(str(csv), validation=validation)
    held_out = load_data(config, 3, TASK).validation["text"]
    evaluated = load_validation(config, ("negative", "positive"), 3, TASK).validation["text"]
    assert list(evaluated) == list(held_out)
    assert list(load_validation(config, ("negative", "positive"), 4, TASK).validation["text"]) != list(held_out)
