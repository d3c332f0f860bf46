"""Timing in every setting: which settings there are, what an entry holds, and when there is no time left."""

import pytest

from hfcompress.measure import latency
from hfcompress.measure.latency import Effort, time_calls
from hfcompress.measure.runnable import load_runnable
from hfcompress.measure.timing import Setting, all_settings, headline_of, time_models
from hfcompress.tasks import TASKS
from tests.tiny import tiny_head, tiny_model

TEXTS = TASKS["text-classification"]


def test_lengths_are_cut_to_what_all_models_take(monkeypatch):
    monkeypatch.setattr("hfcompress.measure.timing.available_cores", lambda: 2)
    models = {"long": tiny_model(layers=1, max_position_embeddings=300), "short": tiny_model(layers=1)}
    found = all_settings(models, TEXTS, (1, 4), (16, 128, 512), (1, 0, 2))
    assert found == [Setting(t, b, n) for t in (1, 2) for b in (1, 4) for n in (16, 78)]
    assert str(found[0]) == "batch 1, length 16, 1 thread"


def test_images_have_one_size():
    model = tiny_head("vit", "ForImageClassification")
    found = all_settings({"vit": model}, TASKS["image-classification"], (1,), (32, 128), (1,))
    assert found == [Setting(1, 1, 16)]


def test_both_runtimes_in_turns(exported):
    sources = {"folder": str(exported.folder), "file": str(exported.float)}
    models = {name: load_runnable(source, TEXTS) for name, source in sources.items()}
    settings = [Setting(1, 1, 8), Setting(2, 3, 8)]
    found = time_models(sources, models, TEXTS, settings, Effort(rounds=4, warm_up=1))
    assert list(found) == ["folder", "file"]
    for entries in found.values():
        assert [(one["threads"], one["batch_size"], one["length"]) for one in entries] == [(1, 1, 8), (2, 3, 8)]
        assert all(one["rounds"] == len(one["times_ms"]) == 4 for one in entries)
    assert all(one["ratio"] == 1 for one in found["folder"])
    assert all(one["median_ms"] > 0 for one in found["file"])


def test_headline_is_one_text_of_the_greatest_length_on_one_thread():
    keys = ("threads", "batch_size", "length")
    timings = [dict(zip(keys, each, strict=True)) for each in [(2, 1, 128), (1, 32, 128), (1, 1, 32), (1, 1, 128)]]
    assert headline_of(timings) == timings[-1]


class Clock:
    """A clock that a call moves by a second."""

    def __init__(self, monkeypatch):
        self.now = self.calls = 0
        monkeypatch.setattr(latency.time, "perf_counter", lambda: self.now)

    def call(self):
        self.now += 1
        self.calls += 1


@pytest.mark.parametrize(
    ("effort", "rounds", "calls"),
    [
        (Effort(rounds=10, warm_up=3), 10, 13),
        (Effort(rounds=10, warm_up=0, seconds=4.5, least=1), 5, 5),
        (Effort(rounds=10, warm_up=3, seconds=1, least=4), 4, 5),  # warmed up once
        (Effort(rounds=2, warm_up=1, seconds=0.1, least=4), 2, 3),
    ],
)
def test_no_round_begins_after_the_time_is_up(effort, rounds, calls, monkeypatch):
    clock = Clock(monkeypatch)
    assert time_calls({"x": clock.call}, effort).tolist() == [[1000.0]] * rounds
    assert clock.calls == calls
