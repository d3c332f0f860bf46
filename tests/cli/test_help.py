"""The front door: help and version are quick and complete, every example in the help parses."""

import dataclasses
import importlib
import shlex
import subprocess
import sys
import time

import pytest

from hfcompress import __version__
from hfcompress.cli.main import VERBS
from hfcompress.cli.options import read_arguments
from tests.cli.support import hfcompress

each_verb = pytest.mark.parametrize("name", VERBS)


def verb_of(name):
    return importlib.import_module(f"hfcompress.cli.{name}").VERB


@each_verb
def test_help_of_a_verb_lists_every_option_with_its_help_and_every_example(name):
    verb = verb_of(name)
    done = hfcompress(name, "--help")
    assert (done.code, done.err) == (0, "")
    unfolded = " ".join(done.out.split())
    fields = [field for group in verb.groups for field in dataclasses.fields(group)]
    for field in fields:
        flag = "--" + field.name.replace("_", "-")
        hidden = field.metadata.get("recipe_only", False)
        assert (f"{flag} " in done.out or f"{flag}\n" in done.out or field.metadata.get("positional")) or hidden, flag
        assert hidden or field.metadata["help"].replace("%%", "%")[:60] in unfolded
    assert {"--json", "--quiet", "--help"} <= set(unfolded.replace(",", " ").split())
    assert verb.help in done.out
    assert all(example in done.out for example in verb.examples)


@each_verb
def test_every_example_of_a_verb_parses(name):
    for example in verb_of(name).examples:
        words = shlex.split(example.partition(" > ")[0])
        assert words[:2] == ["hfcompress", name]
        read_arguments(name, verb_of(name), words[2:])


@each_verb
def test_each_verb_has_an_example_and_stands_in_the_overview(name):
    assert verb_of(name).examples
    done = hfcompress("--help")
    assert f"  {name} " in done.out
    assert VERBS[name] in done.out


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"], ["help"]])
def test_overview_says_how_to_go_on(words):
    done = hfcompress(*words)
    assert (done.code, done.err) == (0, "")
    assert "hfcompress VERB --help" in done.out
    assert "130 stopped by Ctrl-C" in done.out


@pytest.mark.parametrize("word", ["-V", "--version"])
def test_version(word):
    assert hfcompress(word).out == f"hfcompress {__version__}\n"


LIGHT = """
import sys
from hfcompress.cli.main import main
code = main(["--help"])
heavy = {"torch", "transformers", "datasets", "numpy", "pydantic", "rich", "yaml"}
print("heavy:", sorted(heavy & {name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
sys.exit(code)
"""


def test_help_imports_nothing_heavy_and_takes_less_than_half_a_second():
    times = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, timeout=60)
        times.append(time.perf_counter() - start)
        assert done.returncode == 0
        assert done.stderr == "heavy: []\n"
        assert "usage: hfcompress VERB" in done.stdout
    assert min(times) < 0.5


def test_python_dash_m_exits_as_the_command_does():
    command = [sys.executable, "-m", "hfcompress", "distil"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Did you mean 'distill'?" in done.stderr


@pytest.mark.parametrize(
    ("typed", "near"), [("distil", "distill"), ("evalute", "evaluate"), ("quick-start", "quickstart")]
)
def test_nearest_verb_is_offered(typed, near):
    done = hfcompress(typed, "--json")
    assert (done.code, done.out) == (2, "")
    assert f"there is no verb '{typed}'. Did you mean '{near}'? Allowed: augment, bench, card, cluster, " in done.err


def test_an_unlike_verb_gets_the_list():
    done = hfcompress("--json", "list")
    assert done.code == 2
    assert "Did you mean" not in done.err
    assert "export, factorize, inspect, list, pack, prune, push, quantize, quickstart, run, unpack." in done.err
