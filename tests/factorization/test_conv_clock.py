"""Times of chains: dense and a few chains against each other, a straight line between them, never falling."""

import numpy as np

from hfcompress.factorization import conv_clock
from hfcompress.factorization.chains import channel_shapes, dense_shapes, macs_of
from hfcompress.factorization.conv_clock import time_chains
from tests.factorization.kernels_seen import drawn

LAYER = drawn(outputs=32, inputs=16)
CHAINS = [channel_shapes(LAYER, rank) for rank in range(1, 21)]


def test_times_lie_on_lines_between_those_that_are_measured(monkeypatch):
    asked = []

    def timed(what, calls):
        asked.append((what, list(calls)))
        [call() for call in calls.values()]
        return {name: 5.0 if place == 0 else float(place) for place, name in enumerate(calls)}

    monkeypatch.setattr(conv_clock, "time_once", timed)
    times, whole = time_chains(dense_shapes(LAYER), CHAINS, (10, 12))
    assert whole == 5.0
    assert (times[0], times[-1]) == (1.0, 8.0)
    assert np.all(np.diff(times) >= 0)
    assert len(times) == 20
    ((what, calls),) = asked
    assert what == "convolution 32x16x3x3x1x1x1x1x1x1x1 of 10x12"
    assert len(calls) == 9


def test_multiply_accumulates_by_hand():
    (dense,) = dense_shapes(drawn(outputs=32, inputs=16, stride=2))
    assert macs_of([dense], (9, 8)) == 32 * 16 * 9 * 5 * 4
    assert macs_of(channel_shapes(drawn(outputs=32, inputs=16, stride=2), 4), (9, 8)) == (4 * 16 * 9 + 32 * 4) * 5 * 4
