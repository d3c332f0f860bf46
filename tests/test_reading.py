"""Reading: every format gives the same rows, real text stays text, and what cannot be read is refused in a sentence."""

import csv
import json

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from hfcompress import reading
from hfcompress.errors import DataError, ModelError, NetworkError
from hfcompress.reading import load_file, load_splits

ROWS = [("warm film", "good"), ('a "dull", flat\nend', "bad"), ("néant", "good")]
CSV = 'text,label\nwarm film,good\n"a ""dull"", flat\nend",bad\nnéant,good\n'


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def write(path, rows=ROWS):
    records = [{"text": text, "label": label} for text, label in rows]
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *rows])
    elif path.suffix == ".json":
        path.write_text(json.dumps(records, indent=1))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), path)
    return path


def pairs(rows):
    return list(zip(rows["text"], rows["label"], strict=True))


@pytest.mark.parametrize("ending", [".csv", ".json", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_rows(tmp_path, ending):
    splits = load_splits(str(write(tmp_path / f"rows{ending}")))
    assert list(splits) == ["train"]
    assert pairs(splits["train"]) == ROWS


@pytest.mark.parametrize("ending", [".csv", ".json", ".jsonl", ".parquet"])
def test_a_folder_gives_its_files_as_splits(tmp_path, ending):
    write(tmp_path / f"train{ending}")
    write(tmp_path / f"validation{ending}", ROWS[:1])
    splits = load_splits(str(tmp_path))
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 3, "validation": 1}
    assert pairs(splits["train"]) == ROWS


@pytest.mark.parametrize(
    "content",
    [CSV, CSV.replace("\n", "\r\n"), "\ufeff" + CSV, "\ufeff" + CSV.replace("\n", "\r\n"), CSV.rstrip("\n")],
    ids=["unix", "windows", "byte order mark", "windows with mark", "no last line end"],
)
def test_a_csv_from_any_system_gives_the_same_rows(tmp_path, content):
    path = tmp_path / "rows.csv"
    path.write_bytes(content.encode())
    rows = load_file(path)
    assert rows.column_names == ["text", "label"]
    assert [(text.replace("\r\n", "\n"), label) for text, label in pairs(rows)] == ROWS


@pytest.mark.parametrize("folder", [False, True], ids=["file", "folder"])
def test_words_that_look_like_nothing_are_text_in_a_csv(tmp_path, folder):
    words = ["None", "null", "NA", "nan", "N/A", "NULL", "n/a"]
    path = write(tmp_path / "train.csv", [(word, word) for word in words])
    rows = load_splits(str(tmp_path if folder else path))["train"]
    assert pairs(rows) == [(word, word) for word in words]


@pytest.mark.parametrize("name", ["rows[1].csv", "rows (1).csv", "rows*.csv", "rows?.csv", "a, b.csv"])
def test_a_file_name_is_not_a_pattern(tmp_path, name):
    write(tmp_path / "rows1.csv", [("another file", "wrong")])
    assert pairs(load_file(write(tmp_path / name))) == ROWS


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("rows.csv", b"", "is empty"),
        ("rows.json", b"", "is empty"),
        ("rows.csv", b"text,label\n", "holds no rows. Give a file with some."),
        ("rows.json", b"[]", "holds no rows. Give a file with some."),
        ("rows.csv", b'text,label\na,b,c,d\n"x\n', "cannot be read as a data set: Error tokenizing data"),
        ("rows.csv", "text,label\nn\u00e9ant,a\n".encode("latin-1"), "'utf-8' codec can't decode byte 0xe9"),
        ("rows.json", b'{"text": "a", "label": ', "JSON parse error"),
        ("rows.jsonl", b'{"text": "a", "label": 1}\n{"text": \n', "JSON parse error"),
        ("rows.parquet", b"not a parquet file", "cannot be read as a data set: Parquet magic bytes not found"),
        ("rows.txt", b"text,label\n", "is not a data file. Allowed endings: .csv, .json, .jsonl, .parquet."),
        ("rows.CSV", b"text,label\n", "is not a data file. Allowed endings: .csv, .json, .jsonl, .parquet."),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_one_sentence(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as refusal:
        load_splits(str(path))
    assert says in str(refusal.value)
    assert str(refusal.value).startswith(str(path))
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["./absent.csv", "/absent/rows", "absent.csv", "~/absent", "folder/absent.parquet"])
def test_a_path_that_does_not_exist_is_not_looked_for_on_the_hub(name):
    with pytest.raises(DataError, match=r"there is no such file or folder\.$"):
        load_splits(name)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read as a data set: .* doesn't contain any data files"):
        load_splits(str(tmp_path))


def test_without_a_network_a_hub_data_set_fails_at_once():
    with pytest.raises(NetworkError, match="Hub cannot be reached to get the dataset 'someone/reviews'"):
        load_splits("someone/reviews")


def test_the_network_can_also_fail_after_the_first_question(monkeypatch):
    monkeypatch.setattr(reading, "require_dataset", lambda source: None)
    with pytest.raises(NetworkError, match="Hub cannot be reached to get the dataset 'someone/reviews'"):
        load_splits("someone/reviews")


def test_name_and_config_reach_the_hub_apart(monkeypatch):
    asked = []
    monkeypatch.setattr(reading, "require_dataset", asked.append)
    monkeypatch.setattr(datasets, "load_dataset", lambda *names: asked.append(names) or datasets.DatasetDict())
    load_splits("nyu-mll/glue:sst2")
    load_splits("imdb")
    assert asked == ["nyu-mll/glue", ("nyu-mll/glue", "sst2"), "imdb", ("imdb", None)]


def test_a_data_set_that_does_not_exist_keeps_its_own_error(monkeypatch):
    def absent(source):
        raise ModelError(f"there is no {source}")

    monkeypatch.setattr(reading, "require_dataset", absent)
    with pytest.raises(ModelError, match="^there is no someone/reviews$"):
        load_splits("someone/reviews")
