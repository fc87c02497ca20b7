"""docs/benchmarks.md, written from docs/benchmarks.json: `python bench/benchmarks.py` does it.

Each module of bench/sections/ writes the section whose figures a benchmark `keep`s under its name:
`text(figures) -> str`, and a plot or two beside the page where it has any.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import results

PLOTS = results.DOCS / "benchmarks"
SECTIONS = (
    *("budgets", "transport", "jitter", "swap", "end_to_end", "put_back", "growth", "growth_ring"),
    *("real_robot", "recording", "network", "fleet", "denoising", "batched", "pi05"),
)
HEAD = """# Benchmarks

`make bench` measures all of this, in about an hour, and writes this page. `make bench-short`
is 3 minutes of it, once the networks are compiled: it writes nothing and fails where a budget is
broken. One figure alone, printed and not written: `.venv/bin/python -m pytest bench
--benchmark-only --long -k swap`. It takes two cores, the right to SCHED_FIFO (`deploy/limits.conf`)
and, to compare with it, `cyclictest` of rt-tests; what lacks them is skipped.

Each section says on what machine it was measured; times of different sections and machines do not
compare, ratios within a table do."""


def text(section: str, figures: dict[str, Any]) -> str:
    """A section's; draws its plots."""
    PLOTS.mkdir(exist_ok=True)
    return str(importlib.import_module(f"sections.{section}").text(figures))


PAGE = results.Page("benchmarks", HEAD, SECTIONS, text, gathered=("budgets",))


if __name__ == "__main__":
    PAGE.write()
