"""Where the benchmarks' results lie, and what stands beside each: versions and hardware."""

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def write(name, record):
    """Write a benchmark's result down, with the versions and the hardware that it was measured with."""
    from hfcompress.environment import hardware, versions

    RESULTS.mkdir(exist_ok=True)
    record = {**record, "versions": versions(), "hardware": hardware()}
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")


class Record:
    """A benchmark's results cell by cell: written after each, and read again before the next.

    Args:
        name: Of the file.
        what: What is measured, in a line.
    """

    def __init__(self, name, what):
        self.name, self.what = name, what

    def read(self):
        """Return what is there."""
        file = RESULTS / f"{self.name}.json"
        if file.is_file():
            return json.loads(file.read_text())
        return {"what": self.what, "cells": {}, "seconds": {}, "latency": {}}

    def write(self, part, name, found, **settings):
        """Add one result."""
        result = self.read()
        result[part][name] = found
        write(self.name, {**result, **settings})

    def measure(self, name, function, **settings):
        """Run a cell that is not there yet, and write it down."""
        if name in self.read()["cells"]:
            return
        print(name, flush=True)
        found = function()
        self.write("cells", name, found, **settings)
        print(found, flush=True)
