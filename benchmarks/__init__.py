"""Benchmarks: what docs/performance.md quotes. `python -m benchmarks --help`."""
