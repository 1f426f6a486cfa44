"""Benchmarks: one claim a file, measured against peers from PyPI in the same run."""
