"""Finished runs that several tests look at, and a small Hub."""

import pytest

from tests.brisk import measure_briefly
from tests.cli.support import distill_words, hfcompress
from tests.hub.server import running
from tests.hub.support import TOKEN, connect, forget_connections


@pytest.fixture(scope="session")
def distilled(tmp_path_factory, teacher_dir, csv):
    """What a short `hfcompress distill` left, as JSON, and its folder."""
    folder = tmp_path_factory.mktemp("distilled") / "out"
    with pytest.MonkeyPatch.context() as patch:
        measure_briefly(patch)
        done = hfcompress(*distill_words(teacher_dir, csv, folder, "--json"))
    assert done.code == 0, done.err
    return done, folder


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A small Hub that this process talks to, logged in as `me`."""
    with running(tmp_path / "hub") as hub:
        hub.add_user("me", TOKEN)
        connect(hub, monkeypatch)
        yield hub
    monkeypatch.undo()
    forget_connections()
