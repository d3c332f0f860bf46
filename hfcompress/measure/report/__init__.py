"""The report: one self-contained HTML page and its figures, drawn from `measurements.json` and `compression.json`."""

from hfcompress.measure.report.report import report_available, write_report

__all__ = ["report_available", "write_report"]
