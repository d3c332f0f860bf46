"""Measuring: quality, size and latency, on what ships."""
