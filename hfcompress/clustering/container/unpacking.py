"""Unpacking: the files that were packed appear again, every byte of them, or none of them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from tqdm.auto import tqdm

from hfcompress.clustering.container.coding import read_values
from hfcompress.clustering.container.frames import EXPANSION, PIECE, VERSION, Frame, FrameReader, is_safe
from hfcompress.clustering.huffman import DamagedCodeError
from hfcompress.errors import Fault, ModelError, OutputExistsError
from hfcompress.folders import (
    RECORD,
    move_into_place,
    owned,
    refuse_existing,
    refuse_foreign,
    refuse_inputs_inside,
    require_space,
    scratch_folder,
)

_AGAIN = "Download or pack it again."


@dataclass
class UnpackReport:
    """What came out of a container.

    Args:
        folder: Where it lies.
        bytes: What it weighs.
        seconds: How long it took.
        files: Bytes of the files, by name.
    """

    folder: Path
    bytes: int = 0
    seconds: float = 0.0
    files: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        return {
            "folder": str(self.folder),
            "bytes": self.bytes,
            "seconds": round(self.seconds, 2),
            "files": self.files,
        }


def unpack(
    file: Path,
    folder: Path,
    overwrite: bool = False,
    progress: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> UnpackReport:
    """Restore the files of a container into a folder, which appears whole or not at all.

    Args:
        file: What `pack` wrote.
        folder: Where they go.
        overwrite: Replace an existing folder once the new one is complete.
        progress: Show a bar on stderr.
        say: Told in one line what the user should know.

    Raises:
        ModelError: It is not a container, one of a newer version, cut short or damaged; the place is named.
        OutputExistsError: The folder is there, and was not to be replaced, or holds other things.
        OutputInUseError: Another run writes it.
        DiskSpaceError: The disk lacks room.
    """
    begun = time.perf_counter()
    if not file.is_file():
        raise ModelError(Fault(str(file), "is not there.", "Give a .hfz file that `hfcompress pack` wrote."))
    refuse_existing(folder, overwrite)
    refuse_foreign(folder, (RECORD, "config.json"))
    refuse_inputs_inside(folder, file)
    with file.open("rb") as opened:
        unpacker = _Unpacker(file, opened)
        unpacker.begin()
        require_space(folder.parent, unpacker.total)
        with owned(folder), scratch_folder(folder, "unpack") as work:
            final = work / "final"
            final.mkdir()
            with tqdm(total=unpacker.total, desc="unpacking", unit="B", unit_scale=True, disable=not progress) as shown:
                files = unpacker.restore(final, shown.update)
            _refuse_others(folder, files)
            move_into_place(final, folder)
    say(f"{folder}: {len(files)} files, {unpacker.total / 1e6:,.2f} MB, as they were packed")
    return UnpackReport(folder, unpacker.total, time.perf_counter() - begun, files)


def _refuse_others(folder: Path, files: Collection[str]) -> None:
    """Make sure that a folder which hfcompress did not make holds nothing that the container does not bring back.

    Raises:
        OutputExistsError: Something would be lost.
    """
    if (folder / RECORD).is_file():
        return
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or path.is_file()}
    lost = sorted(names - set(files))
    if lost:
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        problem = f"is not replaced: the packed file does not hold its {', '.join(lost[:3])}{more}."
        raise OutputExistsError(Fault(str(folder), problem, "Choose another --output-dir, or remove it yourself."))


class _Unpacker:
    """Reads frame after frame.

    Args:
        path: The container, for errors.
        file: Opened.

    Raises:
        ModelError: It does not begin as a container of a version that is known.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._where = path, "the beginning"
        self._size = path.stat().st_size
        self.total = self._left = self._count = 0
        self._files: dict[str, int] = {}
        try:
            self._reader = FrameReader(file, self._size)
        except DamagedCodeError:
            fix = "Give a file that `hfcompress pack` wrote."
            raise ModelError(Fault(str(path), "is not a .hfz file.", fix)) from None
        if self._reader.version > VERSION:
            problem = f"is of version {self._reader.version} of the format, and this hfcompress reads up to {VERSION}."
            raise ModelError(Fault(str(path), problem, "Run: pip install --upgrade hfcompress"))

    def begin(self) -> None:
        """Read what the container says of itself.

        Raises:
            ModelError: It is damaged.
        """
        self._guard(self._begin)

    def restore(self, folder: Path, advance: Callable[[int], Any]) -> dict[str, int]:
        """Write all files into a folder; return their sizes by name.

        Raises:
            ModelError: Something is damaged; the place is named.
        """
        self._guard(lambda: self._restore(folder, advance))
        return self._files

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except DamagedCodeError as error:
            raise ModelError(Fault(str(self._path), f"is damaged at {self._where}: {error}.", _AGAIN)) from None

    def _begin(self) -> None:
        frame = self._reader.read()
        if frame.kind != "begin":
            raise DamagedCodeError("it does not say what it holds")
        self.total = self._left = frame.number("bytes", EXPANSION * self._size)
        self._count = frame.number("files", self._size)

    def _restore(self, folder: Path, advance: Callable[[int], Any]) -> None:
        while True:
            self._where = _behind(self._where)
            frame = self._reader.read()
            if frame.kind == "end":
                break
            if frame.kind == "bundle":
                self._bundle(frame, folder, advance)
            elif frame.kind == "file":
                self._file(frame, folder, advance)
            else:
                raise DamagedCodeError(f"a frame '{frame.kind}' does not belong there")
        if self._left or len(self._files) != self._count:
            raise DamagedCodeError("other files come out than were announced")

    def _claim(self, folder: Path, name: Any, size: Any) -> Path:
        """Return where a file goes, its folder made.

        Raises:
            DamagedCodeError: Its name leads elsewhere or is taken, or it is larger than what was announced in all.
        """
        if not is_safe(name) or name in self._files:
            raise DamagedCodeError(f"a file cannot be called {name!r}")
        if type(size) is not int or not 0 <= size <= self._left:
            raise DamagedCodeError("more comes out than was announced")
        path = folder / name
        if path.exists() or any((folder / parent).is_file() for parent in PurePosixPath(name).parents):
            raise DamagedCodeError(f"a file cannot be called {name!r}")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._files[name] = size
        self._left -= size
        self._where = name
        return path

    def _bundle(self, frame: Frame, folder: Path, advance: Callable[[int], Any]) -> None:
        names, sizes = frame.fields.get("names"), frame.fields.get("sizes")
        if not isinstance(names, list) or not isinstance(sizes, list) or len(names) != len(sizes):
            raise DamagedCodeError("the names of some files are missing")
        data = _values(frame, 1)
        at = 0
        for name, size in zip(names, sizes, strict=True):
            path = self._claim(folder, name, size)
            path.write_bytes(data[at : at + size])
            at += size
        if at != len(data):
            raise DamagedCodeError("the files of a bundle have other sizes than it says")
        advance(len(data))

    def _file(self, frame: Frame, folder: Path, advance: Callable[[int], Any]) -> None:
        name, left = frame.text("name"), frame.number("size", self.total)
        path = self._claim(folder, name, left)
        digest = hashlib.blake2b(digest_size=32)
        with path.open("xb") as out:
            while True:
                self._where = _behind(self._where)
                piece = self._reader.read()
                if piece.kind != "piece":
                    break
                self._where = f"{piece.text('of')} of {name}"
                data = _values(piece, piece.number("word", 8, 1))
                left -= len(data)
                if left < 0:
                    raise DamagedCodeError("more comes out than was announced")
                out.write(data)
                digest.update(data)
                advance(len(data))
        self._where = name
        if piece.kind != "close" or left or piece.fields.get("digest") != digest.hexdigest():
            raise DamagedCodeError("the file that comes out is not the one that was packed")


def _behind(where: str) -> str:
    """Name the frame after one that was read."""
    return f"what follows {where.removeprefix('what follows ')}"


def _values(frame: Frame, word: int) -> bytes:
    size = frame.number("bytes", PIECE)
    if word not in (1, 2, 4, 8) or size % word:
        raise DamagedCodeError(f"{size} bytes are no numbers of {word}")
    return read_values(frame.text("coding"), frame.data, size, word)
