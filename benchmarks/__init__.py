"""Benchmarks of jaxdodge and of alternatives; run `python -m benchmarks --help` in a checkout."""
