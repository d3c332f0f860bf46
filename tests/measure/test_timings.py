"""Timings that are kept: measured once a machine, found again, and never in the way."""

import json

import pytest
from huggingface_hub import constants

from hfcompress.factorization import clock
from hfcompress.measure import timings


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """A cache of the test's own, and the calls that were timed."""
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(timings, "_EFFORT", timings.Effort(rounds=3, warm_up=1))
    timed = []
    measure = timings.time_calls
    monkeypatch.setattr(
        timings, "time_calls", lambda calls, effort: timed.append(list(calls)) or measure(calls, effort)
    )
    return timed


def entries():
    return json.loads(timings.table_path().read_text())[timings.machine()]


def test_shapes_are_measured_once(counted):
    first, dense = clock.time_ranks(24, 16, 9)
    again, same = clock.time_ranks(24, 16, 9)
    assert counted == [["dense", "1", "2", "3", "4", "6", "7", "8", "9"]]
    assert (first.shape, first[0], dense > 0) == ((10,), 0, True)
    assert again == pytest.approx(first, rel=1e-4)
    assert same == pytest.approx(dense, rel=1e-4)
    clock.time_ranks(16, 24, 9)
    assert len(counted) == 2
    assert list(entries()) == ["linear 24x16, 128 tokens, by rank", "linear 16x24, 128 tokens, by rank"]


def test_what_is_kept_are_ratios_and_the_time_of_the_whole(counted):
    timings.table_path().parent.mkdir(parents=True)
    kept = {"dense": 4.0, **{str(rank): rank / 10 for rank in (1, 2, 3)}}
    timings.table_path().write_text(json.dumps({timings.machine(): {"linear 8x8, 128 tokens, by rank": kept}}))
    times, dense = clock.time_ranks(8, 8, 3)
    assert (times.tolist(), dense) == (pytest.approx([0, 0.4, 0.8, 1.2]), 4.0)
    assert counted == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        b"\xff\xfe",
        '{"MACHINE": []}',
        '{"MACHINE": {"linear 8x8, 128 tokens, by rank": {"dense": 1.0}}}',
        '{"MACHINE": {"linear 8x8, 128 tokens, by rank": {"dense": 1.0, "1": -1, "2": 1, "3": 1}}}',
        '{"MACHINE": {"linear 8x8, 128 tokens, by rank": {"dense": NaN, "1": 1, "2": 1, "3": 1}}}',
        '{"another machine": {"linear 8x8, 128 tokens, by rank": {"dense": 1, "1": 1, "2": 1, "3": 1}}}',
    ],
)
def test_a_table_that_cannot_be_used_is_measured_anew(counted, text):
    path = timings.table_path()
    path.parent.mkdir(parents=True)
    path.write_bytes(text if isinstance(text, bytes) else text.replace("MACHINE", timings.machine()).encode())
    clock.time_ranks(8, 8, 3)
    assert len(counted) == 1
    assert set(entries()["linear 8x8, 128 tokens, by rank"]) == {"dense", "1", "2", "3"}
    assert ("another machine" in path.read_text()) == ("another machine" in str(text))
    assert [file.name for file in path.parent.iterdir()] == ["latency.json"]


def test_a_cache_that_cannot_be_written_is_no_fault(counted, tmp_path):
    (tmp_path / "cache").write_text("a file, no folder")
    for _ in range(2):
        assert clock.time_ranks(8, 8, 3)[1] > 0
    assert len(counted) == 2
