"""What the tests of commands share: one call that runs a command line in this process, and the flags of a short run."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

from transformers.utils import logging

from hfcompress.cli.main import main

# What a fresh process reads from the environment that `main` sets; here transformers was imported before.
logging.set_verbosity_error()
logging.disable_progress_bar()

SHORT = ("--num-train-epochs", "1", "--save-strategy", "no")


@dataclass(frozen=True)
class Done:
    """What a command left: exit code, stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        """The one JSON document on stdout."""
        return json.loads(self.out)

    @property
    def faults(self):
        """The lines of an error, without dashes."""
        return [line.removeprefix("  - ").removeprefix("error: ") for line in self.err.splitlines()]


def hfcompress(*words):
    """Run `hfcompress WORDS…` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(word) for word in words])
    return Done(code, out.getvalue(), err.getvalue())


def distill_words(teacher, dataset, output_dir, *more, student="cut:layers=2"):
    """The words of a short distillation; later flags win."""
    words = ("--teacher", teacher, "--student", student, "--dataset", dataset, "--output-dir", output_dir)
    return ("distill", *words, *SHORT, *more)


def tree(folder):
    """Every path below a folder with its bytes, hidden ones included."""
    return {str(path.relative_to(folder)): path.is_file() and path.read_bytes() for path in folder.rglob("*")}
