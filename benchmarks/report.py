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
