"""docs/reliability.md, written from docs/reliability.json: `python chaos/reliability.py` does it.

A test keeps what it tried and found: `tell("kills", "What was tried", "what was found")`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import results

SECTIONS = {
    "reads": "Reads of rings under writers that never rest",
    "kills": "Processes killed, stopped and ended at random moments",
    "starts": "Starts and stops",
    "soak": "A session left alone",
    "inference": "A policy that misbehaves",
    "network": "A policy on another machine, across bad networks",
    "sensors": "Cameras and topics",
    "machine": "The machine",
    "fuzz": "Inputs that make no sense",
}
HEAD = """# Reliability

What was tried, and what was found. `make chaos` tries a bounded part of it in about ten minutes,
`make soak` all of it in about an hour and writes this page; `make test` includes a short form. All
of it is drawn from a seed (`ARGS="--seed 7"`). One line alone, printed and not written:
`.venv/bin/python -m pytest chaos --scale full -k core_that_is_taken`.

*Torn*: a read that was accepted, and is not the sample that it was said to be. *Backwards*: of an
older sample than the one before it. *Blocked*: a reader that got no further for 20 s (half a second
in a negative control), or spent a second in one read with SCHED_FIFO. *H*: how long a chunk lasts.

Say no `rt.inspect --clean` as the same user while these tests run: it removes what some of them
leave lying on purpose."""


def tell(section: str, tried: str, found: str) -> None:
    """Keep one line of the page, and have it printed."""
    results.keep(section, **{tried: found})
    results.report(tried, found)


def text(section: str, figures: dict[str, Any]) -> str:
    """A section's."""
    rows = results.table(("Tried", "Found"), list(figures.items()))
    return f"## {SECTIONS[section]}\n\n{rows}"


PAGE = results.Page("reliability", HEAD, SECTIONS, text)


if __name__ == "__main__":
    PAGE.write()
