"""The sections of docs/benchmarks.md."""
