"""Builds the site: `python docs/make_site.py [FOLDER]`, by default `build/docs`. Stops at any warning.

Pages that say what the code says are written here from the code and are not kept: see `reference.py`. Sphinx with MyST
was chosen because it is kept up and BSD-licensed, reads Markdown, takes every unknown link for an error, and lets
equations be MathML, so that a site is plain files that need no network.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import check_site
import reference

DOCS = Path(__file__).parent


def pages() -> dict[str, str]:
    """Return all pages, written and generated, by their path."""
    written = {path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md")}
    for name, table in reference.TABLES.items():
        mark = f"<!-- {name} -->"
        written = {path: text.replace(mark, table()) if mark in text else text for path, text in written.items()}
    return {**written, **reference.pages()}


def build(folder: Path) -> list[str]:
    """Build the site into `FOLDER/html`; return one line on each fault, none when all is well."""
    from sphinx.cmd.build import build_main

    source, site = folder / "pages", folder / "html"
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in pages().items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text, encoding="utf-8")
    options = ["-c", str(DOCS), "-b", "html", "-W", "--keep-going", "-q", "-d", str(folder / "doctrees")]
    if build_main([*options, str(source), str(site)]):
        return ["Sphinx warned of something: see above."]
    return check_site.check(site)[1]


def main() -> int:
    """Build, and say what is wrong."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "build/docs").resolve()
    faults = build(folder)
    sys.stderr.write("".join(f"{fault}\n" for fault in faults))
    if not faults:
        sys.stdout.write(f"{folder / 'html' / 'index.html'}\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
