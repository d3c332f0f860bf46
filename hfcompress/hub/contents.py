"""What a file must not hold when it goes to the Hub: secrets, paths of this machine, pickles."""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

# By kind: a text that every match starts with, looked for first because that is quick in gigabytes, and the pattern.
_SECRETS: dict[str, tuple[bytes, re.Pattern[bytes]]] = {
    "a Hugging Face token": (b"hf_", re.compile(rb"(?<![A-Za-z0-9_])hf_(?:oauth_|jwt_)?[A-Za-z0-9]{20,}")),
    "a Hugging Face organization token": (b"api_org_", re.compile(rb"api_org_[A-Za-z0-9]{20,}")),
    "an AWS key": (b"AKIA", re.compile(rb"(?<![A-Za-z0-9])AKIA[0-9A-Z]{16}(?![A-Za-z0-9])")),
    "a temporary AWS key": (b"ASIA", re.compile(rb"(?<![A-Za-z0-9])ASIA[0-9A-Z]{16}(?![A-Za-z0-9])")),
    "an AWS secret key": (
        b"aws_secret_access_key",
        re.compile(rb"aws_secret_access_key[\"']?\s*[=:]\s*[\"']?[A-Za-z0-9/+=]{40}"),
    ),
    "a private key": (b"-----BEGIN ", re.compile(rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----")),
    "a GitHub token": (b"gh", re.compile(rb"(?<![A-Za-z0-9])gh[pousr]_[A-Za-z0-9]{36,}")),
    "a GitHub fine-grained token": (b"github_pat_", re.compile(rb"github_pat_[A-Za-z0-9_]{22,}")),
    "a GitLab token": (b"glpat-", re.compile(rb"glpat-[A-Za-z0-9_-]{20,}")),
    "a Google API key": (b"AIza", re.compile(rb"(?<![A-Za-z0-9])AIza[0-9A-Za-z_-]{35}")),
    "a Slack token": (b"xox", re.compile(rb"xox[abprs]-[A-Za-z0-9-]{10,}")),
    "an API key (sk-…)": (b"sk-", re.compile(rb"(?<![A-Za-z0-9])sk-(?:[a-z0-9]{2,12}-)*[A-Za-z0-9_]{32,}")),
    "a PyPI token": (b"pypi-AgE", re.compile(rb"pypi-AgE[A-Za-z0-9_-]{40,}")),
}
_BLOCK = 1 << 22
_OVERLAP = 1 << 12  # longer than any of the above, so that none is lost between two blocks

_PICKLE_NAMES = re.compile(
    r"(?:\.(?:pkl|pickle|pt|pth|ckpt|joblib|dill)|(?:^|/)(?:pytorch_model|training_args).*\.bin)$"
)
_HEAD = 1 << 20
# A safetensors file may start as a pickle does, for its first eight bytes are a length; but most of them are zero,
# which is no opcode.
_ENOUGH_OPCODES = 4


def find_secrets(place: Path, known: Mapping[str, str]) -> list[str]:
    """Return the kinds of secrets and of other private texts that a file holds; what they are is not told.

    Args:
        place: Any file, text or not.
        known: Kind by exact text: the user's own token, folders of this machine.
    """
    texts = {text.encode(): kind for text, kind in known.items()}
    kinds: set[str] = set()
    for block in _blocks(place):
        kinds |= {kind for text, kind in texts.items() if text in block}
        kinds |= {kind for kind, (start, pattern) in _SECRETS.items() if start in block and pattern.search(block)}
    return sorted(kinds)


def _blocks(place: Path) -> Iterator[bytes]:
    """Read a file in blocks that overlap."""
    tail = b""
    with place.open("rb") as file:
        while block := file.read(_BLOCK):
            yield tail + block
            tail = block[-_OVERLAP:]


def is_pickle(path: str, place: Path) -> bool:
    """Say whether a file is a pickle, by its name or by what it holds; nothing of it is run.

    Args:
        path: Its name.
        place: Where it lies.
    """
    if _PICKLE_NAMES.search(path):
        return True
    with place.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(b"PK"):
        return _holds_pickle(place)
    return _starts_as_pickle(head) or _is_old_pickle(head)


def _holds_pickle(place: Path) -> bool:
    """Say whether a zip file has pickles in it: what `torch.save` writes, whatever its name."""
    try:
        with zipfile.ZipFile(place) as archive:
            return any(name.endswith((".pkl", ".pickle")) for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


def _starts_as_pickle(head: bytes) -> bool:
    """Recognise protocols 2 and later, which say so in their first byte."""
    if head[:1] != b"\x80" or head[1:2] not in {b"\x02", b"\x03", b"\x04", b"\x05"}:
        return False
    opcodes = _opcodes(head)
    return len(opcodes) >= _ENOUGH_OPCODES or opcodes[-1:] == ["STOP"]


def _is_old_pickle(head: bytes) -> bool:
    """Recognise protocols 0 and 1, which only their end and what they call give away."""
    if not head.endswith(b"."):
        return False
    opcodes = _opcodes(head)
    return opcodes[-1:] == ["STOP"] and bool({"GLOBAL", "INST", "REDUCE", "BUILD", "PUT", "BINPUT"} & set(opcodes))


def _opcodes(data: bytes) -> list[str]:
    """Read pickle opcodes as far as they are any."""
    names: list[str] = []
    try:
        for opcode, _, _ in pickletools.genops(io.BytesIO(data)):
            names.append(opcode.name)
    except (ValueError, UnicodeError, IndexError, OverflowError):
        pass
    return names
