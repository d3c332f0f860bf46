"""Emissions: measured by codecarbon where it is there and knows the country, silent otherwise."""

import importlib.util
import sys
import types
from types import SimpleNamespace

import pytest

from hfcompress.pipeline.emissions import measure_emissions, total


class Tracker:
    """Stands for codecarbon's: counts 2 g for each start, and remembers how it was made."""

    made = []

    def __init__(self, **options):
        self.options = options
        self.final_emissions_data = SimpleNamespace(energy_consumed=0.004, country_iso_code="DEU")
        Tracker.made.append(self)

    def start(self):
        self.started = True

    def stop(self):
        return 0.002


@pytest.fixture
def codecarbon(monkeypatch):
    package, config = types.ModuleType("codecarbon"), types.ModuleType("codecarbon.core.config")
    package.OfflineEmissionsTracker = Tracker
    settings = {"country_iso_code": "DEU"}
    config.get_hierarchical_config = lambda: settings
    package.__spec__ = importlib.util.spec_from_loader("codecarbon", None)
    monkeypatch.setitem(sys.modules, "codecarbon", package)
    monkeypatch.setitem(sys.modules, "codecarbon.core", types.ModuleType("codecarbon.core"))
    monkeypatch.setitem(sys.modules, "codecarbon.core.config", config)
    Tracker.made.clear()
    return settings


def test_what_codecarbon_measures_is_kept(codecarbon):
    with measure_emissions() as found:
        assert found == {}
    assert found == {"kg_co2eq": 0.002, "kwh": 0.004, "country": "DEU", "tool": "codecarbon"}
    (tracker,) = Tracker.made
    assert tracker.started
    assert tracker.options["save_to_file"] is False
    assert tracker.options["country_iso_code"] == "DEU"


def test_a_step_that_fails_stops_the_tracker_too(codecarbon):
    def fail():
        with measure_emissions() as found:
            kept.append(found)
            raise KeyError

    kept = []
    with pytest.raises(KeyError):
        fail()
    assert kept[0]["kg_co2eq"] == 0.002


def test_no_country_means_no_number_and_no_question_to_the_internet(codecarbon):
    codecarbon.clear()
    with measure_emissions() as found:
        pass
    assert found == {}
    assert Tracker.made == []


def test_without_codecarbon_nothing_is_measured(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with measure_emissions() as found:
        pass
    assert found == {}


def test_total_needs_every_part():
    part = {"kg_co2eq": 0.5, "kwh": 1.0, "country": "DEU", "tool": "codecarbon"}
    assert total([part, part]) == {"kg_co2eq": 1.0, "kwh": 2.0, "country": "DEU", "tool": "codecarbon"}
    assert total([part, {}]) == {}
    assert total([]) == {}
