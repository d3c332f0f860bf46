"""Finished runs that several tests look at."""

import pytest

from tests.cli.support import distill_words, hfcompress


@pytest.fixture(scope="session")
def distilled(tmp_path_factory, teacher_dir, csv):
    """What a short `hfcompress distill` left, as JSON, and its folder."""
    folder = tmp_path_factory.mktemp("distilled") / "out"
    done = hfcompress(*distill_words(teacher_dir, csv, folder, "--json"))
    assert done.code == 0, done.err
    return done, folder
