"""A teacher's answers on disk: plain .npy files of one fixed size each, opened as memory maps."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hfcompress.errors import Fault, TeacherError
from hfcompress.folders import require_space
from hfcompress.training.cache_identity import CacheIdentity

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_FORMAT = 1
_HEADER, _COMPLETE, _CONFIG = "cache.json", "complete", "config.json"
_NPY_HEADER = 128
"""Bytes before the data of an .npy file of few dimensions."""

DIGESTS, ROW_OFFSETS, TOKEN_OFFSETS, PROGRESS = "digests", "row_offsets", "token_offsets", "progress"
LOGITS, POSITION_LOGITS, EMBEDDINGS = "logits", "position_logits", "embeddings"
TOP_VALUES, TOP_INDICES, TOP_REST = "top_values", "top_indices", "top_rest"


def hidden_name(layer: int) -> str:
    """Return the name of the array that holds a hidden state; 0 is the embeddings."""
    return f"hidden_{layer:03d}"


@dataclass(frozen=True)
class Contents:
    """What is kept of the teacher's answers.

    Args:
        logits: `dense`: all classes of each row; `top-k`: the likeliest, and the rest's mass; `positions`: classes that
            are the tokens of the example, as in question answering; `none`.
        classes: How many there are, 0 for positions.
        top_k: How many of them are kept, where not all.
        temperature: At which the rest's mass was taken, where not all classes are kept.
        layers: Hidden states, 0 the embeddings.
        hidden_width: Of a hidden state.
        embedding_width: Of the embeddings of texts, 0 where none are kept.
    """

    logits: str = "dense"
    classes: int = 0
    top_k: int = 0
    temperature: float = 0.0
    layers: tuple[int, ...] = ()
    hidden_width: int = 0
    embedding_width: int = 0

    def differences(self, wanted: Contents) -> list[str]:
        """Say what of `wanted` is not here, a phrase each."""
        found = []
        if (self.logits, self.classes) != (wanted.logits, wanted.classes):
            found.append(f"it holds {self.logits} logits of {self.classes} classes")
        if self.top_k != wanted.top_k:
            found.append(f"it holds the {self.top_k} likeliest classes, {wanted.top_k} are wanted")
        if self.temperature != wanted.temperature:
            found.append(f"the rest's mass is at temperature {self.temperature:g}, not {wanted.temperature:g}")
        missing = sorted(set(wanted.layers) - set(self.layers))
        if missing:
            found.append(f"hidden states {', '.join(map(str, missing))} were not cached")
        if wanted.embedding_width and not self.embedding_width:
            found.append("embeddings were not cached")
        return found


@dataclass(frozen=True)
class Header:
    """What `cache.json` says.

    Args:
        identity: Of what the answers were computed from.
        contents: What is kept.
        task: The task's name, empty for one that the package does not know.
        names_labels: Whether classes have names, by which they are put into a student's order.
        columns: What tells examples apart, as the data's columns are named.
        prefix: Stands before the columns that the teacher read, where the student reads others.
        batch_size: Examples of a batch; an interrupted build goes on with the same batches.
        shapes: Of each array.
        dtypes: Of each array.
    """

    identity: CacheIdentity
    contents: Contents
    task: str
    names_labels: bool
    columns: tuple[str, ...]
    prefix: str
    batch_size: int
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]

    @property
    def size(self) -> int:
        """Bytes of all arrays."""
        return sum(self.bytes_of(name) for name in self.shapes)

    def bytes_of(self, name: str) -> int:
        """Return how large an array's file is."""
        numbers = int(np.prod(self.shapes[name], dtype=np.int64))
        return _NPY_HEADER + numbers * np.dtype(self.dtypes[name]).itemsize

    def to_json(self) -> str:
        """Return the text of the file; it depends on nothing but what is cached."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Header:
        """Read the file.

        Raises:
            ValueError, TypeError, KeyError: It is not one, or of another format.
        """
        fields: dict[str, Any] = json.loads(text)
        if fields.pop("format") != _FORMAT:
            raise ValueError("it is of another version of hfcompress")
        contents = Contents(**fields["contents"])
        fields["contents"] = replace(contents, layers=tuple(contents.layers))
        fields["identity"] = CacheIdentity(**fields["identity"])
        fields["shapes"] = {str(name): tuple(map(int, shape)) for name, shape in fields["shapes"].items()}
        return cls(**{**fields, "columns": tuple(fields["columns"])})


class CacheFolder:
    """A folder of cached answers.

    Args:
        path: The folder.

    Raises:
        TeacherError: Its header cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.header = Header.from_json((path / _HEADER).read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise TeacherError(Fault(str(path / _HEADER), f"cannot be read: {error}.", again(path))) from None

    @staticmethod
    def exists(path: Path) -> bool:
        """Say whether a folder holds cached answers, finished or not."""
        return (path / _HEADER).is_file()

    @classmethod
    def create(cls, path: Path, header: Header, arrays: Mapping[str, np.ndarray], config: PretrainedConfig) -> None:
        """Write all files at their full size; the header comes last, so that a folder with one is whole.

        Args:
            path: The folder.
            header: What the files are.
            arrays: Those whose contents are known already.
            config: The teacher's.

        Raises:
            TeacherError: The folder holds something else.
            DiskSpaceError: The disk lacks room.
        """
        strange = _strange_files(path, header)
        if strange:
            fix = "Choose an empty folder, or one that does not exist yet."
            raise TeacherError(Fault(str(path), f"holds other files ({', '.join(strange[:3])}).", fix))
        require_space(path, header.size)
        path.mkdir(parents=True, exist_ok=True)
        for name, shape in header.shapes.items():
            array = np.lib.format.open_memmap(_file(path, name), "w+", header.dtypes[name], shape)
            if name in arrays:
                array[...] = arrays[name]
            array.flush()
            _reserve(_file(path, name))
        _write(path / _CONFIG, config.to_json_string())
        _write(path / _HEADER, header.to_json())

    @cached_property
    def config(self) -> PretrainedConfig:
        """The teacher's config.

        Raises:
            TeacherError: It cannot be read.
        """
        from transformers import AutoConfig

        try:
            return AutoConfig.from_pretrained(self.path, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise TeacherError(Fault(str(self.path / _CONFIG), f"cannot be read: {error}.", again(self.path))) from None

    @property
    def is_complete(self) -> bool:
        """Whether every answer is there."""
        return (self.path / _COMPLETE).is_file()

    def mark_complete(self) -> None:
        """Note that every answer is there."""
        _write(self.path / _COMPLETE, "")

    def open(self, mode: Literal["r", "r+"] = "r") -> dict[str, np.ndarray]:
        """Open all arrays as memory maps.

        Raises:
            TeacherError: Files are missing or cut short; all of them.
        """
        faults = []
        for name in self.header.shapes:
            file, expected = _file(self.path, name), self.header.bytes_of(name)
            found = file.stat().st_size if file.is_file() else None
            if found != expected:
                problem = "is missing." if found is None else f"has {found:,} bytes, not {expected:,}: it is damaged."
                faults.append(Fault(str(file), problem, again(self.path)))
        if faults:
            raise TeacherError(*faults)
        return {name: self._open(name, mode) for name in self.header.shapes}

    def _open(self, name: str, mode: Literal["r", "r+"]) -> np.ndarray:
        file = _file(self.path, name)
        try:
            array: np.ndarray = np.load(file, mmap_mode=mode, allow_pickle=False)
        except (ValueError, OSError, EOFError):
            array = np.empty(0)
        if array.shape != self.header.shapes[name] or array.dtype != np.dtype(self.header.dtypes[name]):
            problem = "is not the array that cache.json says: it is damaged."
            raise TeacherError(Fault(str(file), problem, again(self.path)))
        return array

    def require_complete(self) -> None:
        """Make sure that every answer is there.

        Raises:
            TeacherError: Some are missing.
        """
        if not self.is_complete:
            missing = 1 - float(self.open()[PROGRESS].mean())
            problem = f"is not finished: {missing:.0%} of the teacher's answers are missing."
            raise TeacherError(
                Fault(str(self.path), problem, "Run the command that builds it again: it goes on there.")
            )


def again(path: Path) -> str:
    """Say how to come to a sound cache."""
    return f"Delete {path} and build it again, or name another folder."


def ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the numbers `start … start + count − 1` of all pairs, one after the other.

    Example:
        >>> ranges(np.array([5, 0]), np.array([2, 3])).tolist()
        [5, 6, 0, 1, 2]
    """
    ends = counts.cumsum()
    return np.repeat(starts - ends + counts, counts) + np.arange(int(counts.sum()))


def offsets(counts: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return where each example's part begins, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(np.asarray(counts, dtype=np.int64))]).astype(np.int64)


def _file(path: Path, name: str) -> Path:
    return path / f"{name}.npy"


def _strange_files(path: Path, header: Header) -> list[str]:
    """Return what else stands in a folder: whatever an earlier attempt cannot have left."""
    ours = {_HEADER, f".{_HEADER}", _CONFIG, f".{_CONFIG}", *(f"{name}.npy" for name in header.shapes)}
    return sorted(entry.name for entry in path.iterdir() if entry.name not in ours) if path.is_dir() else []


def _write(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _reserve(path: Path) -> None:
    """Take the disk's blocks now: a memory map that finds the disk full kills the process."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
