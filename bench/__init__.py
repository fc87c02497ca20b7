"""Benchmarks: `pytest bench/ --benchmark-only`. Figures are ratios to a peer in the same run."""
