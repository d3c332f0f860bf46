"""A small Hub to push to, and a folder to push."""

import shutil

import pytest

from tests.hub.server import running
from tests.hub.support import TOKEN, connect, forget_connections, save_small


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub where the user is `me`, who may write in `acme` and read in `museum`."""
    with running(tmp_path / "hub") as hub:
        hub.add_user("me", TOKEN, {"acme": "write", "museum": "read"})
        connect(hub, monkeypatch)
        yield hub
    monkeypatch.undo()
    forget_connections()


@pytest.fixture(scope="session")
def saved_small(tmp_path_factory):
    return save_small(tmp_path_factory.mktemp("saved") / "small")


@pytest.fixture
def small(saved_small, tmp_path):
    """A model folder that may be changed."""
    return shutil.copytree(saved_small, tmp_path / "small")
