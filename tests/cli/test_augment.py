"""`hfcompress augment`: variants of texts in a file, from the command line."""

import json

import pytest

from hfcompress.distillation import augmentation
from tests.cli.support import hfcompress, tree
from tests.distillation.test_candidates import masked_model, save
from tests.tiny import write_csv


@pytest.fixture(scope="module")
def model(tokenizer, tmp_path_factory):
    return save(masked_model(), tokenizer, tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    return write_csv(tmp_path_factory.mktemp("reviews") / "reviews.csv", 20)


def augment(model, dataset, output_file, *more):
    words = ("--model", model, "--dataset", dataset, "--output-file", output_file, "--copies", "2")
    return hfcompress("augment", *words, *more)


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_variants_without_labels(model, reviews, tmp_path):
    done = augment(model, reviews, tmp_path / "out.jsonl")
    assert done.code == 0, done.err
    written = lines(tmp_path / "out.jsonl")
    assert {tuple(line) for line in written} == {("text", "augmented_from")}
    assert f"{len(written)} variants of 20 rows are in {tmp_path / 'out.jsonl'}" in done.out.replace("\n", " ")
    assert written[0]["text"] in done.out.replace("\n", " ")
    assert "20/20" in done.err


@pytest.mark.parametrize("method", ["embedding", "masked-lm"])
def test_json_and_quiet(method, model, reviews, tmp_path):
    done = augment(model, reviews, tmp_path / "out.jsonl", "--json", "--quiet", "--method", method)
    assert (done.code, done.err) == (0, "")
    assert done.json["variants"] == len(lines(tmp_path / "out.jsonl"))
    assert done.json["output_file"] == str(tmp_path / "out.jsonl")
    assert done.json["rows"] == 20


def test_dry_run_writes_nothing(model, reviews, tmp_path):
    (tmp_path / "out.jsonl").write_text("old")
    done = augment(model, reviews, tmp_path / "out.jsonl", "--dry-run")
    assert done.code == 0
    assert "At most 40 variants of 20 rows" in done.out
    assert tree(tmp_path) == {"out.jsonl": b"old"}
    found = augment(model, reviews, tmp_path / "out.jsonl", "--dry-run", "--json", "--copies", "5").json
    assert (found["rows"], found["variants"]) == (20, 100)


def test_ctrl_c_says_where_it_stands_and_the_same_command_goes_on(model, reviews, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    augment(model, reviews, tmp_path / "whole.jsonl")
    with monkeypatch.context() as patch:
        honest, done = augmentation._vary, []
        patch.setattr(augmentation, "_vary", lambda *a: stop() if done else done.append(1) or honest(*a))
        stopped = augment(model, reviews, tmp_path / "out.jsonl", "--quiet")
    assert (stopped.code, stopped.out) == (130, "")
    assert stopped.faults[-1].startswith("Stopped after 16 of 20 rows, which are kept in ")
    assert augment(model, reviews, tmp_path / "out.jsonl", "--json").json["rows_before"] == 16
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_pairs_rows_and_columns(model, tmp_path):
    rows = [{"one": "the film", "two": "a plot", "kind": kind, "number": 1} for kind in "abab"]
    data = write(tmp_path / "pairs.jsonl", [*rows, {"one": "the film", "two": " ", "kind": "a", "number": 1}])
    columns = ("--text-column", "one", "--text_pair_column", "two", "--where", "kind=a")
    done = augment(model, data, tmp_path / "out.jsonl", "--json", *columns)
    assert done.json["rows"] == 2
    assert "note: 1 rows without a text are left out" in done.err
    assert {tuple(line) for line in lines(tmp_path / "out.jsonl")} == {("text", "text_pair", "augmented_from")}
    few = augment(model, data, tmp_path / "few.jsonl", "--json", "--text-column", "one", "--max-rows", "3")
    assert few.json["rows"] == 3


def test_the_only_column_with_text_is_taken(model, tmp_path):
    data = write(tmp_path / "data.jsonl", [{"words": "the film", "label": 1}])
    assert augment(model, data, tmp_path / "out.jsonl").code == 0
    both = write(tmp_path / "both.jsonl", [{"text": "the film", "source": "here"}])
    assert augment(model, both, tmp_path / "two.jsonl").code == 0


@pytest.mark.parametrize(
    ("row", "more", "said"),
    [
        ({"a": "x", "b": "y"}, (), ["has several columns with text: a, b. Pass --text-column."]),
        ({"a": 1}, (), ["has no column with text."]),
        ({"text": "x"}, ("--text-column", "txt"), ["there is no column 'txt'. Did you mean 'text'? Allowed: text."]),
        ({"text": "x", "n": 1}, ("--text-column", "n"), ["its column 'n' holds no text. Those that do: text."]),
        ({"text": "x"}, ("--text-pair-column", "text"), ["the column 'text' cannot serve twice."]),
        ({"text": "x"}, ("--train-split", "trian"), ["there is no split 'trian'. Did you mean 'train'?"]),
        ({"text": "x"}, ("--where", "kind=a"), ["where: there is no column 'kind'."]),
        ({"text": "x", "n": 1}, ("--where", "n=2"), ["has no rows with text that match `where`."]),
        ({"text": " "}, (), ["has no rows with text."]),
        (
            {"a": "x", "b": "y"},
            ("--text-pair-column", "c", "--where", "d=1"),
            ["there is no column 'c'", "there is no column 'd'", "several columns"],
        ),
    ],
)
def test_data_that_will_not_do(row, more, said, model, tmp_path):
    data = write(tmp_path / "data.jsonl", [row])
    done = augment(model, data, tmp_path / "out.jsonl", *more)
    assert (done.code, done.out) == (2, "")
    assert all(text in done.err for text in said)
    assert list(tree(tmp_path)) == ["data.jsonl"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--output-file", "out.csv"), "--output-file: takes a file that ends in .jsonl, got 'out.csv'."),
        (("--method", "glove"), "--method: input should be 'embedding' or 'masked-lm', got 'glove'."),
        (("--copy", "3"), "--copy: there is no such flag. Did you mean '--copies'?"),
        (("--model", "nowhere/at/all"), "nowhere/at/all: there is no such folder."),
    ],
)
def test_flags_that_will_not_do(more, said, model, reviews, tmp_path):
    done = augment(model, reviews, tmp_path / "out.jsonl", *more)
    assert (done.code, done.faults) == (2, [said])


def test_an_existing_file_is_refused_before_the_data_are_read(model, tmp_path):
    (tmp_path / "out.jsonl").write_text("old")
    done = augment(model, tmp_path / "nothing.csv", tmp_path / "out.jsonl")
    assert done.code == 2
    assert "exists already. Choose another --output-file, or pass --overwrite" in done.err


def test_the_data_are_not_overwritten(model, tmp_path):
    data = write(tmp_path / "data" / "a.jsonl", [{"text": "the film"}]) if (tmp_path / "data").mkdir() is None else None
    for dataset, out in ((data, data), (data.parent, data.parent / "more.jsonl")):
        done = augment(model, dataset, out, "--overwrite")
        assert (done.code, done.faults) == (
            2,
            [f"--output-file: '{out}' is part of the data set. Choose another place."],
        )
    assert lines(data) == [{"text": "the film"}]


def test_a_model_without_a_language_modelling_head_is_refused(teacher_dir, reviews, tmp_path):
    done = augment(teacher_dir, reviews, tmp_path / "out.jsonl", "--method", "masked-lm", "--quiet")
    assert done.code == 2
    assert "has no trained head for masked language modelling" in done.err
    assert "Use --method embedding" in done.err
    assert tree(tmp_path) == {}
    assert augment(teacher_dir, reviews, tmp_path / "out.jsonl").code == 0


def test_help_says_why_there_are_no_labels():
    said = hfcompress("augment", "--help").out
    assert "may turn the meaning" in said
    assert "only the teacher speaks on it" in said
