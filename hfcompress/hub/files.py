"""Which files of a model folder go to a repository: leftovers stay behind, links and special files are refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path

from hfcompress.errors import Fault
from hfcompress.sources import sha256

# What programs leave lying about; hidden files (.git, .cache, .gitignore, .OUT.partial, …) stay behind too.
_LEFTOVERS = ("*.partial", "*.incomplete", "*.tmp", "*.lock", "*.swp", "*~", "__pycache__", "*.pyc", "Thumbs.db")
_FOLDERS = ("checkpoint-*", "steps")
"""Of training and of a recipe's earlier steps: models of their own."""
_SECRET_NAMES = (
    *(".env", ".env.*", "*.env", ".netrc", "_netrc", ".pypirc", ".npmrc", ".git-credentials", ".htpasswd"),
    *("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.kdbx"),
    *("credentials.json", "client_secret*.json", "stored_tokens", "token", ".aws", ".ssh", ".gnupg"),
)


@dataclass(frozen=True)
class LocalFile:
    """One file that goes to the repository.

    Args:
        path: Its name there, with forward slashes.
        place: Where it lies here.
        size: Bytes.
    """

    path: str
    place: Path
    size: int

    @cached_property
    def sha256(self) -> str:
        """The digest by which the Hub knows large files."""
        return sha256(self.place)

    @cached_property
    def git_hash(self) -> str:
        """The digest by which git, and so the Hub, knows small files."""
        from huggingface_hub.utils.sha import git_hash

        return git_hash(self.place.read_bytes())


@dataclass
class Found:
    """What lies in a folder.

    Args:
        files: What goes to the repository, sorted by name.
        left_out: Leftovers, which stay behind; folders end with a slash.
        faults: What must not go there.
    """

    files: list[LocalFile] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def find_files(folder: Path) -> Found:
    """Sort what lies below a folder into what goes to the repository, what stays behind and what must not be there.

    Args:
        folder: The model folder, with links in its own path resolved.
    """
    found = Found()
    for place in _walk(folder, found):
        path = place.relative_to(folder).as_posix()
        if place.is_file():
            found.files.append(LocalFile(path, place, place.stat().st_size))
        else:
            found.faults.append(Fault(path, "is neither a file nor a folder.", "Remove it."))
    found.files.sort(key=lambda file: file.path)
    found.left_out.sort()
    return found


def _walk(root: Path, found: Found, folder: Path | None = None) -> Iterator[Path]:
    """Yield what is neither folder, leftover, secret nor bad link; note the others."""
    for place in sorted((folder or root).iterdir()):
        path = place.relative_to(root).as_posix()
        if any(fnmatch(place.name, pattern) for pattern in _SECRET_NAMES):
            found.faults.append(Fault(path, "is where secrets are kept.", "Move it out of the folder."))
        elif _is_leftover(place):
            found.left_out.append(f"{path}/" if place.is_dir() else path)
        elif place.is_symlink() and (problem := _link_problem(place, root)):
            found.faults.append(Fault(path, problem, "Put a copy in its place, or remove the link."))
        elif place.is_dir():
            yield from _walk(root, found, place)
        else:
            yield place


def _is_leftover(place: Path) -> bool:
    name = place.name
    if name.startswith(".") or any(fnmatch(name, pattern) for pattern in _LEFTOVERS):
        return True
    return place.is_dir() and any(fnmatch(name, pattern) for pattern in _FOLDERS)


def _link_problem(link: Path, root: Path) -> str | None:
    """Say what is wrong with a link; one to a file inside the folder is fine."""
    target = link.resolve()
    if not target.is_relative_to(root):
        return "is a link that leads out of the folder."
    if target.is_dir():
        return "is a link to a folder."
    return None if target.exists() else "is a link that leads nowhere."
