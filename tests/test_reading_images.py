"""Reading images: folders with a folder a class or with metadata, and scikit-learn's digits."""

import datasets
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from hfcompress.errors import DataError
from hfcompress.reading import load_splits


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def save(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), value).save(path)


def test_the_digits_are_scikit_learns():
    splits = load_splits("sklearn:digits")
    assert list(splits) == ["train"]
    rows, original = splits["train"], load_digits()
    assert rows.column_names == ["image", "label"]
    assert rows.features["label"].names == [str(digit) for digit in range(10)]
    assert rows["label"] == original.target.tolist()
    for index in (0, 1000, 1796):
        image = rows[index]["image"]
        assert (image.mode, image.size) == ("L", (8, 8))
        assert np.asarray(image) == pytest.approx(original.images[index] * 255 / 16, abs=0.5)
    assert np.asarray(rows[0]["image"]).max() in (239, 255)  # 15 or 16 of 16


@pytest.mark.parametrize("name", ["iris", "", "Digits"])
def test_other_data_of_scikit_learns_is_refused(name):
    with pytest.raises(DataError, match=f"there is no data set 'sklearn:{name}'.*Allowed: sklearn:digits"):
        load_splits(f"sklearn:{name}")


def test_a_folder_a_class(tmp_path):
    for label, value in (("dark", 10), ("light", 200)):
        for index in range(2):
            save(tmp_path / label / f"{index}.png", value + index)
    rows = load_splits(str(tmp_path))["train"]
    assert rows.features["label"].names == ["dark", "light"]
    found = [(row["image"].getpixel((0, 0)), row["label"]) for row in rows]
    assert found == [(10, 0), (11, 0), (200, 1), (201, 1)]


def test_splits_are_folders_above_the_classes(tmp_path):
    for split, count in (("train", 3), ("validation", 1)):
        for label in ("a", "b"):
            for index in range(count):
                save(tmp_path / split / label / f"{index}.png", index)
    splits = load_splits(str(tmp_path))
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 6, "validation": 2}


def test_labels_in_metadata(tmp_path):
    for index in range(3):
        save(tmp_path / f"{index}.png", index)
    (tmp_path / "metadata.csv").write_text("file_name,label\n0.png,None\n1.png,light\n2.png,None\n")
    rows = load_splits(str(tmp_path))["train"]
    assert [row["image"].getpixel((0, 0)) for row in rows] == [0, 1, 2]
    assert rows["label"][1] == "light"
