"""A policy for robots that have no GPU: `python -m rt.serve` (docs/remote.md)."""
