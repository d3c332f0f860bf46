"""Versions and hardware: plain text, and of optional packages those that are installed."""

import json

import pytest

from hfcompress import environment
from hfcompress.environment import available_cores


def test_hardware_and_versions_are_plain_text():
    assert json.loads(json.dumps(environment.versions())) == environment.versions()
    assert environment.hardware()["cores"] >= 1


def test_packages_that_are_not_installed_are_left_out():
    assert environment.versions(("pytest", "no-such-package")).keys() == {"hfcompress", "python", "pytest"}
    assert environment.versions(environment.TRAINING).items() <= environment.versions().items()


@pytest.mark.parametrize(("wanted", "cores"), [("1", 1), ("2", 2), ("64", 4), ("0", 4), ("all", 4), ("", 4)])
def test_omp_num_threads_bounds_the_cores(wanted, cores, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(4)))
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    assert available_cores() == cores
