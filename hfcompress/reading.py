"""Reading: a Hub id, a file, a folder or scikit-learn's digits becomes the splits of a data set, as they are."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hfcompress.errors import DataError, Fault, RequestError, unknown
from hfcompress.sources import require_dataset, resolve, unreachable

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

FORMATS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
"""The builder of `datasets` by file ending."""

# pandas would read the texts "None", "null" and "NA" as missing.
CSV_OPTIONS = {"keep_default_na": False}

SKLEARN_SCHEME = "sklearn:"
SKLEARN_NAMES = ("digits",)
"""The data sets that scikit-learn ships and this package reads."""


def load_splits(dataset: str) -> DatasetDict:
    """Read a data set by its name on the Hub, a file or folder (of data files, or of images), or `sklearn:digits`.

    A folder of images holds a folder a class, or a `metadata.csv` with a column `file_name`; `train` and `validation`
    folders above those become splits.

    Raises:
        DataError: It is not there, or cannot be read.
        NetworkError: It would have to come from the Hub, which cannot be reached.
    """
    from datasets import DatasetDict, load_dataset, load_dataset_builder

    if dataset.startswith(SKLEARN_SCHEME):
        return DatasetDict(train=_from_sklearn(dataset))
    place = resolve(dataset)
    path = Path(place)
    if path.is_file():
        return DatasetDict(train=load_file(path))
    with _readable(dataset):
        if path.is_dir():
            is_csv = hasattr(load_dataset_builder(place).config, "keep_default_na")
            return load_dataset(place, **(CSV_OPTIONS if is_csv else {}))
        if place.startswith((".", "/", "~")) or path.suffix in FORMATS:
            raise DataError(Fault(dataset, "there is no such file or folder."))
        name, _, config = place.partition(":")
        require_dataset(name)
        loaded = load_dataset(name, config or None)
        return loaded if isinstance(loaded, DatasetDict) else DatasetDict(train=loaded)


def load_file(path: Path) -> Dataset:
    """Read one data file.

    Raises:
        DataError: It is empty, of another kind, or cannot be read.
    """
    from datasets import load_dataset

    if path.suffix not in FORMATS:
        raise DataError(Fault(str(path), "is not a data file.", f"Allowed endings: {', '.join(FORMATS)}."))
    if path.stat().st_size == 0:
        raise DataError(Fault(str(path), "is empty."))
    options = CSV_OPTIONS if path.suffix == ".csv" else {}
    with _readable(str(path)):
        return load_dataset(FORMATS[path.suffix], data_files=glob.escape(str(path)), split="train", **options)


def _from_sklearn(source: str) -> Dataset:
    """Return scikit-learn's 1,797 handwritten digits: `image`, 8 by 8 in grey, and `label`.

    Raises:
        DataError: Another data set of scikit-learn's is meant.
    """
    name = source.removeprefix(SKLEARN_SCHEME)
    if name not in SKLEARN_NAMES:
        raise DataError(unknown("data set", source, [SKLEARN_SCHEME + name for name in SKLEARN_NAMES]))
    import numpy as np
    from datasets import ClassLabel, Dataset, Features, Image
    from PIL.Image import fromarray
    from sklearn.datasets import load_digits

    found = load_digits()
    grey = np.rint(found.images * (255 / 16)).astype(np.uint8)
    classes = ClassLabel(names=[str(digit) for digit in found.target_names])
    rows = {"image": [fromarray(image) for image in grey], "label": found.target.tolist()}
    return Dataset.from_dict(rows, features=Features({"image": Image(), "label": classes}))


@contextmanager
def _readable(dataset: str) -> Iterator[None]:
    """Say in one sentence what `datasets` could not read."""
    from datasets.exceptions import DatasetsError

    try:
        yield
    except RequestError:
        raise
    except ConnectionError:
        raise unreachable(dataset, "dataset") from None
    except (DatasetsError, ValueError, FileNotFoundError) as error:
        cause = str(error.__cause__ or error).strip() or type(error).__name__
        if "corresponds to no data" in cause:
            raise DataError(Fault(dataset, "holds no rows.", "Give a file with some.")) from error
        raise DataError(Fault(dataset, f"cannot be read as a data set: {cause.splitlines()[0]}")) from error
