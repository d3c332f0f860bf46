"""Checks a built site without a browser: links lead somewhere, nothing comes from the network, equations are there."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
_VOID = {"br", "hr", "img", "input", "link", "meta", "source", "wbr", "path", "rect", "circle", "line", "polyline"}


@dataclass
class Page(HTMLParser):
    """What one page holds.

    Args:
        path: Its file.
    """

    path: Path
    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    equations: int = 0
    unclosed: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Read the file."""
        super().__init__()
        self.feed(self.path.read_text(encoding="utf-8"))
        self.close()
        self.faults += [f"<{tag}> is not closed" for tag in self.unclosed]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note anchors, links and what is loaded."""
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        self.equations += tag == "math"
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in _LOADED and _LOADED[tag] in values:
            self.loaded.append(values[_LOADED[tag]])
        if tag not in _VOID:
            self.unclosed.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag that closes itself."""
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.unclosed.pop()

    def handle_endtag(self, tag: str) -> None:
        """Close a tag; what was opened inside it must be closed."""
        if tag in _VOID:
            return
        # A paragraph or list item may be left open: what contains it ends it.
        while self.unclosed and self.unclosed[-1] != tag and self.unclosed[-1] in ("p", "li", "dd", "dt"):
            self.unclosed.pop()
        if not self.unclosed or self.unclosed.pop() != tag:
            self.faults.append(f"</{tag}> at line {self.getpos()[0]} closes nothing")


def check(folder: Path) -> tuple[dict[str, Page], list[str]]:
    """Read all pages of a site.

    Returns:
        The pages by their path inside the site, and one line on each fault.
    """
    pages = {path.relative_to(folder).as_posix(): Page(path) for path in sorted(folder.rglob("*.html"))}
    faults = []
    for name, page in pages.items():
        faults += [f"{name}: {fault}" for fault in page.faults]
        faults += [f"{name}: loads {url} from the network" for url in page.loaded if _is_remote(url)]
        faults += [
            f"{name}: {url} leads nowhere" for url in (*page.links, *page.loaded) if not _resolves(url, page, pages)
        ]
    return pages, faults


def _is_remote(url: str) -> bool:
    return bool(urlsplit(url).netloc)


def _resolves(url: str, page: Page, pages: dict[str, Page]) -> bool:
    """Say whether a link inside the site has a target; others are not followed."""
    parts = urlsplit(url)
    if parts.scheme or parts.netloc:
        return True
    target = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path.resolve()
    if target.is_dir():
        target /= "index.html"
    if not target.exists():
        return False
    found = next((other for other in pages.values() if other.path.resolve() == target), None)
    return not parts.fragment or found is None or unquote(parts.fragment) in found.anchors
