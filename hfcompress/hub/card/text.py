"""Text for model cards: what other people wrote goes in without paths, secrets or markup; numbers as measured."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

REMOVED = "[removed]"

_SECRETS = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{10,}|api_org_[A-Za-z0-9]{10,}|gh[pousr]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}"
    r"|sk-[\w-]{16,}|xox[abprs]-[\w-]{10,}|AKIA[0-9A-Z]{16}|eyJ[\w-]{8,}\.[\w-]+\.[\w-]*)"
)
_ADDRESSES = re.compile(
    r"\b[A-Za-z][A-Za-z0-9+.-]{0,20}://[^\s<>\"']*|\bwww\.[^\s<>\"']+|\b[\w.+-]{1,64}@[A-Za-z][\w.-]{2,}|\b\d{1,3}(?:\.\d{1,3}){3}\b"
)
_PUBLIC_HOSTS = ("huggingface.co", "hf.co", "github.com", "arxiv.org", "doi.org", "pypi.org", "aclanthology.org")
_HOME = re.compile(
    r"(?:[A-Za-z]:)?[\\/](?:home|Users|Documents and Settings)[\\/]+[^\\/\n\"'|]+(?=[\\/])|~[\w.-]*(?=/)"
)
_HOME_ITSELF = re.compile(r"(?:[A-Za-z]:)?[\\/]+(?:(?:home|Users)[\\/]+[^\\/]+|root)[\\/]*")
_NAME = r"[^\s\\/\"'`<>|*?:;,()\[\]{}]+"
_PATHS = re.compile(
    rf"\b[A-Za-z]:[\\/]+(?:{_NAME}[\\/]*)*"  # C:\Users\…
    rf"|\\\\(?:{_NAME}\\*)+"  # \\host\share
    rf"|(?<![\w./\\<])(?:\.\.?/)*\.?\.?/{_NAME}(?:/+{_NAME})*/?"  # /home/… and ../…
)
_WHOLE_PATH = re.compile(r"[\\/]|~[\w.-]*/|[A-Za-z]:[\\/]|\.\.?[\\/]")

_NODE = re.compile(r"/?([A-Za-z][\w.:-]*)(?:/[\w.:-]+)*")
_SYSTEM_FOLDERS = (
    "home",
    "Users",
    "root",
    "srv",
    "mnt",
    "media",
    "tmp",
    "var",
    "opt",
    "etc",
    "usr",
    "data",
    "Volumes",
    "private",
)

_SPECIAL = re.compile(r"([\\`*\[\]~|$#])|(?<!\w)(_)|(_)(?!\w)")


def scrub(text: str) -> str:
    """Take out what tells of a machine or lets somebody in: tokens, addresses, and folders of paths.

    Example:
        >>> scrub("trained on /data/private/reviews.csv")
        'trained on reviews.csv'
    """
    text = _SECRETS.sub(REMOVED, text)
    text = _ADDRESSES.sub(lambda found: found[0] if _is_public(found[0]) else REMOVED, text)
    if _WHOLE_PATH.match(text) and "\n" not in text:  # a value that is a path may have spaces in it
        return _last_name(text)
    return _PATHS.sub(lambda found: _last_name(found[0]), _HOME.sub("", text))


def _is_public(address: str) -> bool:
    """Say whether an address is one that anybody may read."""
    parts = urlsplit(address)
    return parts.scheme == "https" and parts.netloc.removeprefix("www.") in _PUBLIC_HOSTS


def _last_name(path: str) -> str:
    """Return a path's last name; a home folder's would be its owner's."""
    names = [name for name in re.split(r"[\\/]+", path) if name]
    is_home = _HOME_ITSELF.fullmatch(path) or (len(names) > 1 and names[-2] in ("home", "Users"))
    return names[-1] if names and not is_home else "folder"


def plain(value: Any, limit: int = 300) -> str:
    """Return a value as one line of scrubbed text, for front matter."""
    text = unicodedata.normalize("NFC", str(value))
    text = "".join(c if unicodedata.category(c)[0] != "C" or c in "\t\r\n" else "" for c in text)
    text = " ".join(scrub(text).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def markdown(value: Any, limit: int = 300) -> str:
    """Return a value as one line of Markdown that shows as it was written, also in a table's cell."""
    text = plain(value, limit).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(lambda found: "\\" + found[0], text)


def node(value: Any) -> str:
    """Return the name of a graph's node as Markdown; such names look like paths and keep their slashes.

    Example:
        >>> node("/bert/encoder/layer.0/MatMul")
        '/bert/encoder/layer.0/MatMul'
    """
    found = _NODE.fullmatch(str(value))
    if found is None or found[1] in _SYSTEM_FOLDERS or _SECRETS.search(str(value)):
        return markdown(value, 120)
    return _SPECIAL.sub(lambda one: "\\" + one[0], str(value)[:120])


def block(text: str, language: str) -> str:
    """Return a fenced block that its contents cannot close."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table: the first column to the left, the others to the right; cells are Markdown."""
    lines = [list(columns), [":---", *["---:"] * (len(columns) - 1)], *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def listing(parts: Sequence[str]) -> str:
    """Join parts of a sentence.

    Example:
        >>> listing(["a", "b", "c"])
        'a, b and c'
    """
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def percent(value: float) -> str:
    """Return a share as a percentage, to one decimal, or more where that would make it all or none.

    Example:
        >>> percent(0.837), percent(0.99996), percent(0.0002)
        ('83.7', '99.996', '0.02')
    """
    rounded = f"{100 * value:.1f}"
    hides = (rounded == "100.0" and value != 1) or (float(rounded) == 0 and value != 0)
    return f"{100 * value:.5g}" if hides else rounded


def points(change: float) -> str:
    """Return a change in percentage points with its sign; one that is there never shows as none.

    Example:
        >>> points(-0.0002)
        '-0.02'
    """
    rounded = f"{100 * change:+.1f}"
    return f"{100 * change:+.1g}" if float(rounded) == 0 and change else rounded.replace("+0.0", "0.0")


def megabytes(number: float) -> str:
    """Return bytes in millions."""
    return f"{number / 1e6:,.1f}" if number >= 1e5 else f"{number / 1e6:.2g}"


def parameters(number: float) -> str:
    """Return a number of parameters in millions, or in thousands where there is less than one."""
    return f"{number / 1e6:.1f} M" if number >= 1e6 else f"{number / 1e3:.0f} k"


def times(ratio: float) -> str:
    """Return a ratio to two decimals, or more where that would hide that it is not one.

    Example:
        >>> times(0.5084), times(1.003)
        ('0.51', '1.003')
    """
    return f"{ratio:.3f}" if f"{ratio:.2f}" == "1.00" and ratio != 1 else f"{ratio:.2f}"
