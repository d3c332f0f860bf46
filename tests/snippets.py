"""Snippets of Markdown pages, as tests run them: code blocks, and what kind of shell line there is."""

import contextlib
import importlib
import io
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from hfcompress.cli.main import VERBS
from hfcompress.cli.options import read_arguments

ROOT = Path(__file__).parents[1]
NEEDS_HUB = "<!-- needs the Hub -->"
"""Stands before a block that cannot run without the Hub: its commands are parsed only."""


@dataclass(frozen=True)
class Block:
    """One code block.

    Args:
        language: What stands behind the fence.
        text: What stands inside.
        needs_hub: Whether it is marked with `NEEDS_HUB`.
    """

    language: str
    text: str
    needs_hub: bool


def blocks(page, language=None):
    """Return the code blocks of a page in order, perhaps of one language only."""
    found = re.findall(rf"(?m)^({re.escape(NEEDS_HUB)}\n\s*)?^```(\w+)\n(.*?)^```$", page, re.S)
    made = [Block(name, text, bool(mark)) for mark, name, text in found]
    return [block for block in made if language in (None, block.language)]


def shell_lines(page):
    """Return each line of a page's shell blocks, with its block."""
    return [(line, block) for block in blocks(page, "bash") for line in block.text.splitlines() if line.strip()]


def commands(page):
    """Return the lines that run hfcompress itself."""
    return [line for line, _ in shell_lines(page) if line.startswith("hfcompress ")]


def parse(line):
    """Read a line `hfcompress VERB …`; its flags and values must be right.

    Raises:
        RequestError: They are not.
    """
    name, *words = shlex.split(line, comments=True)[1:]
    assert name in VERBS
    verb = importlib.import_module(f"hfcompress.cli.{name}").VERB
    return read_arguments(name, verb, words)[0]


def run_python(block, names):
    """Run a Python block; what it defines goes into `names`."""
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(block.text, "<snippet>", "exec"), names)  # noqa: S102


def check_other_line(line):
    """Check a shell line that does not run hfcompress: a make target, an install, or a script of ours must be there."""
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        assert words[1] in make_targets()
    elif words[:2] == ["accelerate", "launch"] and "hfcompress" in words:
        parse(shlex.join(words[words.index("hfcompress") :]))
    elif words[0] in ("accelerate", "python"):
        script = next(word for word in words if word.endswith(".py"))
        assert (ROOT / script).is_file()
    else:
        assert words[:2] == ["pip", "install"]


def make_targets():
    """Return the targets of the Makefile."""
    return set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
