"""Figures to print at the end of a benchmark run, also under -q (bench/conftest.py does it)."""

from __future__ import annotations

LINES: list[str] = []


def report(what: str, figures: str) -> None:
    """Have one line printed."""
    LINES.append(f"{what}: {figures}")
