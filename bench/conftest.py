"""Prints the figures of a run at its end, with the machine that they were measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest
from figures import LINES


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpu = models[0] if models else platform.machine()
    return f"{cpu}, {os.cpu_count()} CPUs, Linux {platform.release()}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the report."""
    if LINES:
        terminalreporter.section(f"measured on {_machine()}")
        for line in LINES:
            terminalreporter.write_line(line)
