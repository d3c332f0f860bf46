"""Packing: a checkpoint folder becomes one file."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from tqdm.auto import tqdm

from hfcompress._version import __version__
from hfcompress.clustering.container.coding import code_bytes, code_values
from hfcompress.clustering.container.frames import PIECE, FrameWriter, is_safe
from hfcompress.clustering.container.safetensors_parts import Part, parts_of
from hfcompress.errors import Fault, ModelError, OutputExistsError, RequestError
from hfcompress.folders import owned, refuse_parents, work_folder

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
_TRAINER_OPTIONS = "training_args.bin"
_SMALL = 4 * 2**20
_BUNDLED = 512
"""Files below `_SMALL` bytes go together, so many at most: a vocabulary often stands in two of them."""


@dataclass
class PackReport:
    """What packing made.

    Args:
        file: The container.
        bytes: What it weighs.
        unpacked_bytes: What the folder weighs.
        seconds: How long it took.
        files: Bytes of the folder's files, by name.
        tensors: By name: bytes, what they became, and how they are coded.
    """

    file: Path
    bytes: int = 0
    unpacked_bytes: int = 0
    seconds: float = 0.0
    files: dict[str, int] = field(default_factory=dict)
    tensors: dict[str, dict[str, Any]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        return {
            "file": str(self.file),
            "bytes": self.bytes,
            "unpacked_bytes": self.unpacked_bytes,
            "ratio": round(self.unpacked_bytes / self.bytes, 3),
            "seconds": round(self.seconds, 2),
            "files": self.files,
            "tensors": self.tensors,
        }


def pack(
    folder: Path,
    file: Path,
    overwrite: bool = False,
    progress: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> PackReport:
    """Write all files of a checkpoint folder into one; `unpack` restores every byte of them.

    Tensors of safetensors files are stored by their entropy: as codebook and Huffman-coded indices where values recur
    (weight sharing, zeros), else by planes of bytes, of which the exponents are Huffman-coded. All other files are
    compressed by LZMA. Tensors are taken one after another, in pieces: the memory needed does not grow with the model.

    Args:
        folder: With a `config.json` and safetensors files; folders inside it, too, but for empty ones. Of links to
            files, as in the Hub's cache, the files are packed. `training_args.bin`, a pickle that no model is loaded
            from, is left out, and told.
        file: The container; it appears whole or not at all. It may lie in the folder.
        overwrite: Replace a file that is there.
        progress: Show a bar on stderr.
        say: Told in one line what the user should know.

    Raises:
        ModelError: The folder is no checkpoint, or holds pickles, broken safetensors files or links to folders; all
            faults.
        OutputExistsError: The file is there, and was not to be replaced.
    """
    begun = time.perf_counter()
    refuse_file(file, overwrite)
    files = _files(folder, file, say)
    report = PackReport(file, files={name: path.stat().st_size for name, path in files.items()})
    report.unpacked_bytes = sum(report.files.values())
    file.absolute().parent.mkdir(parents=True, exist_ok=True)
    with owned(file):
        _write(files, file, report, progress)
    report.bytes = file.stat().st_size
    report.seconds = time.perf_counter() - begun
    say(f"{file}: {report.bytes / 1e6:,.2f} MB, {report.unpacked_bytes / report.bytes:.1f} times smaller")
    return report


def _write(files: dict[str, Path], file: Path, report: PackReport, progress: bool) -> None:
    """Write the container beside its place, then move it there; what a killed run left beside it is overwritten."""
    partial = work_folder(file)
    total = report.unpacked_bytes
    try:
        with (
            partial.open("wb") as out,
            tqdm(total=total, desc="packing", unit="B", unit_scale=True, disable=not progress) as shown,
        ):
            writer = FrameWriter(out)
            writer.write("begin", files=len(files), bytes=total, made_by=f"hfcompress {__version__}")
            for part in _bundles(files, report.files):
                shown.update(_write_bundle(writer, part))
            for name, path in files.items():
                if _stands_alone(name, report.files[name]):
                    _write_file(writer, name, path, report, shown.update)
            writer.end()
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def refuse_file(file: Path, overwrite: bool) -> None:
    """Make sure that a file may be written.

    Raises:
        RequestError: Its name says that it is something else.
        OutputExistsError: It is there and `overwrite` is false, it is a folder, or its parent cannot be written to.
    """
    if file.suffix != ".hfz":
        raise RequestError(Fault(str(file), "does not end in .hfz.", f"For example: {file.with_suffix('.hfz').name}"))
    if file.is_dir():
        raise OutputExistsError(Fault(str(file), "is a folder.", "Choose another name."))
    if file.exists() and not overwrite:
        raise OutputExistsError(Fault(str(file), "exists already.", "Choose another name, or pass --overwrite."))
    refuse_parents(file)


def _files(folder: Path, file: Path, say: Callable[[str], None]) -> dict[str, Path]:
    """Return a checkpoint's files by their names in the container, sorted.

    Raises:
        ModelError: It is none, or holds what is not packed.
    """
    if not (folder / "config.json").is_file():
        fix = "Give a folder that `save_pretrained` or hfcompress wrote."
        raise ModelError(Fault(str(folder), "is not a checkpoint: it holds no config.json.", fix))
    found = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or not path.is_dir()
    }
    own = {file.absolute(), work_folder(file).absolute()}
    found = {name: path for name, path in found.items() if path.absolute() not in own}
    for name in [name for name, path in found.items() if path.name == _TRAINER_OPTIONS]:
        say(f"left out: {name}, the Trainer's options as a pickle, which no model is loaded from")
        del found[name]
    faults = [fault for name, path in found.items() for fault in _refused(name, path)]
    if faults:
        raise ModelError(*faults)
    return found


def _refused(name: str, path: Path) -> Iterator[Fault]:
    """Say why a file is not packed, if so."""
    if not is_safe(name):
        yield Fault(repr(name), "is a name that not every system can take.", "Rename it.")
    if path.is_symlink() and not path.is_file():
        yield Fault(
            name, "is a link that leads to no file.", "Remove it, or copy what it should lead to into its place."
        )
    elif not path.is_file():
        yield Fault(name, "is not a regular file.", "Remove it.")
    elif path.suffix in _PICKLES:
        fix = "Save the weights as safetensors (`save_pretrained`), and remove it."
        yield Fault(name, "is a pickle, which can run code where it is loaded.", fix)
    elif path.suffix == ".safetensors":
        try:
            parts_of(path)
        except ModelError as error:
            yield from error.faults


def _stands_alone(name: str, size: int) -> bool:
    return size >= _SMALL or name.endswith(".safetensors")


def _bundles(files: dict[str, Path], sizes: dict[str, int]) -> Iterator[dict[str, Path]]:
    """Return the small files in groups that are packed together."""
    bundle: dict[str, Path] = {}
    for name in [name for name in files if not _stands_alone(name, sizes[name])]:
        if len(bundle) == _BUNDLED or sum(sizes[one] for one in bundle) + sizes[name] > PIECE:
            yield bundle
            bundle = {}
        bundle[name] = files[name]
    if bundle:
        yield bundle


def _write_bundle(writer: FrameWriter, bundle: dict[str, Path]) -> int:
    contents = [path.read_bytes() for path in bundle.values()]
    data = b"".join(contents)
    coding, coded = code_bytes(data)
    sizes = [len(content) for content in contents]
    writer.write("bundle", coded, names=list(bundle), sizes=sizes, bytes=len(data), coding=coding)
    return len(data)


def _write_file(writer: FrameWriter, name: str, path: Path, report: PackReport, advance: Callable[[int], Any]) -> None:
    """Write a file piece by piece."""
    size = report.files[name]
    parts = parts_of(path) if path.suffix == ".safetensors" else [Part("content", 0, size)]
    digest = hashlib.blake2b(digest_size=32)
    writer.write("file", name=name, bytes=0, size=size)
    with path.open("rb") as file:
        for part in parts:
            written, codings = 0, set()
            for data in _pieces(file, part):
                digest.update(data)
                coding, coded = _code(data, part)
                fields = {"of": part.name, "coding": coding, "word": part.word or 1}
                written += writer.write("piece", coded, bytes=len(data), **fields)
                codings.add(coding)
                advance(len(data))
            if part.word:
                known = {"bytes": part.size, "packed": written, "coding": "+".join(sorted(codings)) or "none"}
                report.tensors[part.name] = known
    writer.write("close", bytes=0, digest=digest.hexdigest())


def _pieces(file: BinaryIO, part: Part) -> Iterator[bytes]:
    """Read a part in pieces of whole rows where that is possible."""
    row, most = max(part.word * part.row, 1), PIECE
    if part.word in (1, 2):
        most = PIECE // 4 * part.word  # memory goes by how many numbers there are
    most = most // row * row or most
    file.seek(part.start)
    left = part.size
    while left:
        data = file.read(min(most, left))
        if not data:
            raise ModelError(Fault(file.name, "became shorter while it was packed."))
        left -= len(data)
        yield data


def _code(data: bytes, part: Part) -> tuple[str, bytes]:
    if not part.word:
        return code_bytes(data)
    return code_values(np.frombuffer(data, dtype=f"<u{part.word}"), part.row)
