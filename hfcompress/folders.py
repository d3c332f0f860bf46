"""Output folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from hfcompress.errors import DiskSpaceError, Fault, OutputExistsError


def work_folder(output_dir: Path) -> Path:
    """Return the sibling folder in which an output folder is prepared; it outlives a stopped run."""
    return output_dir.with_name(f".{output_dir.name}.partial")


def refuse_existing(output_dir: Path, overwrite: bool) -> None:
    """Make sure that an output folder may be written.

    Raises:
        OutputExistsError: It is there and `overwrite` is false, or its parent is not a folder.
    """
    if output_dir.exists() and not overwrite:
        fix = "Choose another --output-dir, or pass --overwrite to replace it once the new one is complete."
        raise OutputExistsError(Fault(str(output_dir), "exists already.", fix))
    for parent in output_dir.absolute().parents:
        if parent.exists():
            if not parent.is_dir() or not os.access(parent, os.W_OK):
                raise OutputExistsError(Fault(str(parent), "is not a folder that can be written to."))
            return


def move_into_place(finished: Path, output_dir: Path) -> None:
    """Put a finished folder at its final place; an old one there survives until the new one stands.

    Args:
        finished: The complete folder, on the same file system.
        output_dir: Where it goes.
    """
    old = output_dir.with_name(f".{output_dir.name}.old")
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
