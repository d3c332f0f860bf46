"""Finished runs that several tests look at."""

from functools import partial

import pytest

from hfcompress.measure.latency import measure_latency
from tests.cli.support import distill_words, hfcompress


@pytest.fixture(scope="session")
def distilled(tmp_path_factory, teacher_dir, csv):
    """What a short `hfcompress distill` left, as JSON, and its folder."""
    folder = tmp_path_factory.mktemp("distilled") / "out"
    done = hfcompress(*distill_words(teacher_dir, csv, folder, "--json"))
    assert done.code == 0, done.err
    return done, folder


@pytest.fixture
def brisk(monkeypatch):
    """Measure less than a user would, where the numbers are not what is tested."""
    monkeypatch.setattr("hfcompress.measure.size._macs", lambda *_: 1)
    monkeypatch.setattr("hfcompress.measure.quality._RESAMPLES", 9)
    monkeypatch.setattr("hfcompress.pipeline.measured.measure_latency", partial(measure_latency, rounds=2, warm_up=0))
