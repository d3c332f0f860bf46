"""Versions and hardware: plain text, and of optional packages those that are installed."""

import json

from hfcompress import environment


def test_hardware_and_versions_are_plain_text():
    assert json.loads(json.dumps(environment.versions())) == environment.versions()
    assert environment.hardware()["cores"] >= 1


def test_packages_that_are_not_installed_are_left_out():
    assert environment.versions(("pytest", "no-such-package")).keys() == {"hfcompress", "python", "pytest"}
    assert environment.versions(environment.TRAINING).items() <= environment.versions().items()
