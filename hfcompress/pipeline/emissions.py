"""What a step's energy costs the climate, measured by codecarbon where it is installed and told the country."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def measure_emissions(wanted: bool = True) -> Iterator[dict[str, Any]]:
    """Measure what runs inside; the dictionary is filled at the end, with `kg_co2eq`, `kwh`, `country` and `tool`.

    It stays empty without codecarbon, and without a country: that one would have to be asked of a service on the
    internet, which nobody allowed. `CODECARBON_COUNTRY_ISO_CODE=DEU`, or codecarbon's own config file, says it.

    Args:
        wanted: Whether to measure at all: the whole machine is, so one of several processes is enough.
    """
    found: dict[str, Any] = {}
    tracker = _tracker() if wanted else None
    if tracker is None:
        yield found
        return
    tracker.start()
    try:
        yield found
    finally:
        kilograms = tracker.stop()
        data = tracker.final_emissions_data
        found |= {
            "kg_co2eq": float(kilograms or 0),
            "kwh": float(data.energy_consumed),
            "country": data.country_iso_code,
            "tool": "codecarbon",
        }


def _tracker() -> Any:
    if importlib.util.find_spec("codecarbon") is None:
        return None
    from codecarbon import OfflineEmissionsTracker
    from codecarbon.core.config import get_hierarchical_config

    country = get_hierarchical_config().get("country_iso_code")
    if not country:
        return None
    return OfflineEmissionsTracker(
        country_iso_code=country, save_to_file=False, log_level="error", allow_multiple_runs=True
    )


def total(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Add up the emissions of several steps; empty when one of them has none."""
    if not parts or not all(parts):
        return {}
    summed = {name: sum(part[name] for part in parts) for name in ("kg_co2eq", "kwh")}
    return {**parts[0], **summed}
