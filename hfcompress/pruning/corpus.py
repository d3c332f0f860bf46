"""The texts whose tokens are kept, and how a tokenizer reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfcompress.errors import DataError, Fault, unknown
from hfcompress.reading import load_splits
from hfcompress.sources import resolve

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from hfcompress.tasks import Task

_BATCH = 1024

Text = str | tuple[str, ...]
"""A text, or the words of one that is read word by word."""


class Reader:
    """Reads whole texts with a tokenizer, neither cut nor padded, whatever the tokenizer did last.

    Args:
        tokenizer: A fast one; it is left as it is.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        from tokenizers import Tokenizer
        from tokenizers.pre_tokenizers import ByteLevel

        core = tokenizer.backend_tokenizer
        self.core = Tokenizer.from_str(core.to_str())
        self.core.encode_special_tokens = core.encode_special_tokens
        self.core.no_truncation()
        self.core.no_padding()
        # Words inside a text stand behind a space, which is a part of their first piece.
        split = core.pre_tokenizer
        self.space = " " if isinstance(split, ByteLevel) and not split.add_prefix_space else ""

    def read(self, texts: Sequence[Text]) -> Iterator[list[int]]:
        """Yield the tokens of each text, special ones included."""
        for start in range(0, len(texts), _BATCH):
            batch = texts[start : start + _BATCH]
            found: dict[int, list[int]] = {}
            for are_words in (True, False):
                places = [place for place, text in enumerate(batch) if isinstance(text, tuple) == are_words]
                given = [self._input(batch[place]) for place in places]
                read = self.core.encode_batch_fast(given, is_pretokenized=are_words)
                found.update((place, encoding.ids) for place, encoding in zip(places, read, strict=True))
            yield from (found[place] for place in range(len(batch)))

    def words(self, text: Text) -> list[str]:
        """Return the words that the tokenizer cuts a text into before it looks for pieces."""
        core = self.core
        plain = text if isinstance(text, str) else " " + " ".join(text)
        normal = core.normalizer.normalize_str(plain) if core.normalizer is not None else plain
        if core.pre_tokenizer is None:
            return [normal]
        return [word for word, _ in core.pre_tokenizer.pre_tokenize_str(normal)]

    def _input(self, text: Text) -> Any:
        return text if isinstance(text, str) else [self.space + word for word in text]


def texts_of(rows: Dataset) -> list[Text]:
    """Return the texts in rows, under whatever columns: texts, texts cut into words (also as whole ones), targets."""
    found: dict[Text, None] = {}
    for name, feature in rows.features.items():
        if _is_text(feature):
            found.update(dict.fromkeys(value for value in rows[name] if value))
        elif _is_text(getattr(feature, "feature", None)):
            lists = [tuple(value) for value in rows[name] if value]
            found.update(dict.fromkeys(lists))
            found.update(dict.fromkeys(" ".join(words) for words in lists))
    return list(found)


def _is_text(feature: Any) -> bool:
    return getattr(feature, "dtype", None) in ("string", "large_string")


def read_texts(source: str, column: str | None, task: Task) -> list[Text]:
    """Read a corpus: a text file with a text a line, or any data set that the package reads.

    Args:
        source: A file, a folder or a Hub id; of several splits the one to train on.
        column: Which column; by default the one that the task's texts usually have.
        task: Knows what columns are called.

    Raises:
        DataError: It cannot be read, or has no such column.
        NetworkError: It would have to come from the Hub, which cannot be reached.
    """
    path = Path(resolve(source))
    if path.suffix == ".txt":
        return _lines(source, path)
    splits = load_splits(source)
    rows = splits["train"] if "train" in splits else next(iter(splits.values()))
    if column is None:
        usual = [name for each in task.columns if each.ours == "text" for name in each.usual]
        column = next((name for name in usual if name in rows.column_names), None)
    if column is None or column not in rows.column_names:
        wanted = Fault(
            source, "has no column for the text that I know.", f"Its columns: {', '.join(rows.column_names)}."
        )
        raise DataError(wanted if column is None else unknown("column", column, rows.column_names, source))
    return texts_of(rows.select_columns([column]))


def _lines(source: str, path: Path) -> list[Text]:
    try:
        return list(dict.fromkeys(path.read_text(encoding="utf-8").splitlines()))
    except FileNotFoundError:
        raise DataError(Fault(source, "there is no such file.")) from None
    except UnicodeDecodeError:
        raise DataError(Fault(source, "is not a text in UTF-8.", "Convert it, for example with iconv.")) from None
