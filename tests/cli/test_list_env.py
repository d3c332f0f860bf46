"""`hfcompress list` and `hfcompress env`."""

import getpass
import socket
from pathlib import Path

import pytest
import torch

from hfcompress import registry
from hfcompress.pipeline.recipe import shipped_recipes
from hfcompress.sources import SHORT_NAMES
from hfcompress.tasks import TASKS
from tests.cli.support import hfcompress


def test_list_names_everything_with_a_line_each():
    done = hfcompress("list", "--json")
    found = done.json
    assert set(found) == {*registry.FAMILIES, "recipe", "task", "model"}
    assert {"kl", "jsd", "hidden_mse", "task"} <= set(found["loss"])
    assert {"uniform", "last", "skip"} <= set(found["layer_map"])
    assert set(found["recipe"]) == set(shipped_recipes())
    assert set(found["task"]) == set(TASKS)
    assert found["model"] == SHORT_NAMES
    assert all(text.strip() for names in found.values() for text in names.values())
    table = hfcompress("list").out
    assert all(name in table for names in found.values() for name in names)


@pytest.mark.parametrize("family", [*registry.FAMILIES, "recipe", "task", "model"])
def test_list_of_one_family(family):
    assert list(hfcompress("list", family, "--json").json) == [family]


def test_list_of_an_unknown_family():
    done = hfcompress("list", "los")
    assert (done.code, done.out) == (2, "")
    assert (
        "there is no family 'los'. Did you mean 'loss'? Allowed: clustering, distillation, export_backend, " in done.err
    )


def test_env_tells_versions_and_hardware_and_nothing_of_the_user():
    done = hfcompress("env", "--json")
    assert done.json["torch"] == torch.__version__
    assert {"hfcompress", "python", "transformers", "processor", "cores", "system"} <= set(done.json)
    names = {socket.gethostname(), getpass.getuser(), str(Path.home())} - {"root", "user", "localhost", "/"}
    for text in (done.out, hfcompress("env").out):
        assert [name for name in names if len(name) > 4 and name in text] == []
