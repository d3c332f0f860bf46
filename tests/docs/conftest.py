"""What the tests of the pages share."""

from functools import partial

import pytest

from hfcompress.measure.latency import measure_latency


@pytest.fixture
def brisk(monkeypatch):
    """Measure less than a user would: the numbers are not what is tested here."""
    monkeypatch.setattr("hfcompress.measure.quality._RESAMPLES", 9)
    monkeypatch.setattr("hfcompress.pipeline.measured.measure_latency", partial(measure_latency, rounds=2, warm_up=0))
