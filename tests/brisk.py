"""Measuring less than a user would, where the numbers are not what is tested."""

from dataclasses import replace

from hfcompress.measure.bench import BenchSettings
from hfcompress.measure.latency import Effort
from hfcompress.pipeline import finishing

FEW = Effort(rounds=2, warm_up=1)
QUICK = BenchSettings((1,), (16,), (1,), FEW, memory=False)


def measure_briefly(patch):
    """Time all that is timed for a finished folder, but only twice, and start no process to measure memory."""
    patch.setattr(finishing, "SETTINGS", replace(finishing.SETTINGS, effort=FEW, memory=False))


def measure_less(patch):
    """Time one short text alone, count no operations, draw no report."""
    patch.setattr("hfcompress.measure.size._macs", lambda *_: (1, 1))
    for name in ("_RESAMPLES", "_FEWER_RESAMPLES"):
        patch.setattr(f"hfcompress.measure.quality.{name}", 9)
    for name in ("STANDARD", "HEADLINE"):
        patch.setattr(f"hfcompress.measure.bench.{name}", QUICK)
    patch.setattr("hfcompress.pipeline.measured.HEADLINE", QUICK)
    patch.setattr(finishing, "SETTINGS", QUICK)
    patch.setattr(finishing, "_report", lambda *_: None)
