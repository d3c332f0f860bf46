"""Output folders that appear whole or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from huggingface_hub import constants

from hfcompress.errors import DiskSpaceError, Fault, OutputExistsError, OutputInUseError
from hfcompress.processes import is_main_process

RECORD = "compression.json"
"""Its presence tells a folder that hfcompress made."""

_ASIDE = "old"
"""The purpose of the sibling in which an old output waits until the new one stands."""


def work_folder(output_dir: Path) -> Path:
    """Return the sibling folder in which an output folder is prepared; it outlives a stopped run."""
    return _sibling(output_dir, "partial")


def _sibling(output: Path, purpose: str) -> Path:
    """Return the hidden file or folder beside an output that serves a purpose."""
    return output.parent / f".{output.name}.{purpose}"


def refuse_existing(output_dir: Path, overwrite: bool) -> None:
    """Make sure that an output may be written; what a killed run had put aside is put back first.

    Raises:
        OutputExistsError: It is there and `overwrite` is false, it is a link, it holds the current folder, or its
            parent is not a folder that can be written to.
    """
    restore_interrupted(output_dir)
    if output_dir.is_symlink():
        fix = f"Give --output-dir the folder itself: {os.path.realpath(output_dir)}"
        raise OutputExistsError(Fault(str(output_dir), "is a link, which is not replaced.", fix))
    if output_dir.exists() and not overwrite:
        fix = "Choose another --output-dir, or pass --overwrite to replace it once the new one is complete."
        raise OutputExistsError(Fault(str(output_dir), "exists already.", fix))
    if _holds(output_dir, Path.cwd()):
        raise OutputExistsError(Fault(str(output_dir), "holds the current folder.", "Choose another --output-dir."))
    refuse_parents(output_dir)


def refuse_parents(output: Path) -> None:
    """Make sure that the nearest folder above an output that exists can be written to.

    Raises:
        OutputExistsError: It cannot, it is no folder, or a link there leads nowhere.
    """
    for parent in output.absolute().parents:
        if parent.exists() or parent.is_symlink():
            if not parent.is_dir() or not os.access(parent, os.W_OK):
                raise OutputExistsError(Fault(str(parent), "is not a folder that can be written to."))
            return


def refuse_foreign(output_dir: Path, known: Iterable[str] = (RECORD,)) -> None:
    """Make sure that nothing but an earlier result is replaced.

    Args:
        output_dir: What would be replaced; it need not exist.
        known: Names of files of which one tells that hfcompress made the folder.

    Raises:
        OutputExistsError: It is a file, or a folder that holds other things.
    """
    if not output_dir.exists() or (output_dir.is_dir() and not any(output_dir.iterdir())):
        return
    known = list(known)
    if not any((output_dir / name).is_file() for name in known):
        problem = f"is not replaced, for hfcompress did not make it: it holds no {' or '.join(known)}."
        raise OutputExistsError(Fault(str(output_dir), problem, "Choose another --output-dir, or remove it yourself."))


def refuse_inputs_inside(output_dir: Path, inputs: Any) -> None:
    """Make sure that nothing that a run reads goes with the folder that it replaces; links are followed.

    Args:
        output_dir: What would be replaced; it need not exist.
        inputs: Strings, paths, and lists, mappings and dataclasses of them; what is no existing path does not matter.

    Raises:
        OutputExistsError: An input lies in the folder, or is the folder.
    """
    if not output_dir.exists():
        return
    inside = sorted({str(path) for path in _paths_in(inputs) if _holds(output_dir, path)})
    if inside:
        problem = f"would be replaced with all that it holds, and the run reads {', '.join(inside)}."
        raise OutputExistsError(Fault(str(output_dir), problem, "Choose another --output-dir, or move what is read."))


def _paths_in(values: Any) -> Iterator[Path]:
    """Yield the existing paths among nested values."""
    if dataclasses.is_dataclass(values):
        values = vars(values)
    if isinstance(values, Mapping):
        values = list(values.values())
    if isinstance(values, (list, tuple, set)):
        for value in values:
            yield from _paths_in(value)
    elif isinstance(values, (str, Path)) and str(values):
        with suppress(OSError, ValueError):  # a long text or one with NUL is no path
            if os.path.exists(values):
                yield Path(values)


def _holds(folder: Path, path: Path) -> bool:
    """Say whether a path is a folder or lies in it, links followed."""
    outer, inner = Path(os.path.realpath(folder)), Path(os.path.realpath(path))
    return outer == inner or outer in inner.parents


@contextmanager
def owned(output: Path) -> Iterator[None]:
    """Be the only run that writes an output until the block ends; the lock dies with its process.

    The main process holds it for all that were launched with it.

    Raises:
        OutputInUseError: Another run writes it.
    """
    if not is_main_process():
        yield
        return
    try:
        lock = FileLock(_lock_file(output), timeout=0)
        lock.acquire()
    except Timeout:
        fix = "Wait until it has ended, or choose another place."
        raise OutputInUseError(Fault(str(output), "is being written by another run of hfcompress.", fix)) from None
    try:
        yield
    finally:
        lock.release()


def _lock_file(output: Path) -> Path:
    """Return the file to lock: beside Hugging Face's cache, so that output folders hold nothing but outputs."""
    name = hashlib.sha256(os.path.realpath(output).encode()).hexdigest()[:32] + ".lock"
    folder = Path(constants.HF_HOME) / "hfcompress" / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:  # a cache that is shared, and read alone
        folder = Path(tempfile.gettempdir()) / f"hfcompress-locks-{os.getuid() if hasattr(os, 'getuid') else 0}"
        folder.mkdir(parents=True, exist_ok=True)
    return folder / name


@contextmanager
def scratch_folder(output: Path, purpose: str) -> Iterator[Path]:
    """Make an empty sibling of an output to work in, and remove it; what a killed run left there goes first."""
    folder = _sibling(output, purpose)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def restore_interrupted(output_dir: Path) -> None:
    """Put an old output back where a run was killed between putting it aside and the new one's arrival."""
    old = _sibling(output_dir, _ASIDE)
    if not old.exists() or output_dir.exists() or output_dir.is_symlink():
        return
    with suppress(OutputInUseError), owned(output_dir):  # the run that is at it finishes by itself
        if old.exists() and not output_dir.exists():
            old.rename(output_dir)


def move_into_place(finished: Path, output_dir: Path) -> None:
    """Put a finished folder at its final place; an old one there survives until the new one stands.

    Args:
        finished: The complete folder, on the same file system.
        output_dir: Where it goes.
    """
    old = _sibling(output_dir, _ASIDE)
    if output_dir.exists():
        shutil.rmtree(old, ignore_errors=True)
        output_dir.rename(old)
    try:
        finished.rename(output_dir)
    except OSError:
        if old.exists():
            old.rename(output_dir)
        raise
    shutil.rmtree(old, ignore_errors=True)


def move_inside(work: Path, folder: Path, last: str) -> None:
    """Move what a finished folder holds into another one, in the place of what has the same names there.

    Args:
        work: The finished folder, on the same file system.
        folder: Where it goes; it need not exist.
        last: The file that arrives last, and so tells that all are there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(work.iterdir(), key=lambda path: (path.name == last, path.name)):
        target = folder / path.name
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        path.replace(target)


def require_space(folder: Path, needed: int) -> None:
    """Make sure that the disk has room before a long run starts.

    Args:
        folder: A folder on that disk; it need not exist yet.
        needed: Bytes that will be written.

    Raises:
        DiskSpaceError: Less is free than needed.
    """
    existing = next(path for path in [folder.absolute(), *folder.absolute().parents] if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise DiskSpaceError(
            f"{existing} has {free / 1e6:,.0f} MB free, and this run writes about {needed / 1e6:,.0f} MB. "
            "Free some space, or choose a place on another disk."
        )


def bytes_on_disk(folder: Path) -> int:
    """Return the size of all files below a folder, in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
