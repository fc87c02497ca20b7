"""docs/reliability.md, written from docs/reliability.json: `python chaos/reliability.py` does it.

A test keeps what it tried and found: `tell("kills", "What was tried", "what was found")`.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import proof

FIGURES = proof.DOCS / "reliability.json"
PAGE = proof.DOCS / "reliability.md"
SECTIONS = {
    "reads": "Reads of rings under writers that never rest",
    "kills": "Processes killed, stopped and ended at random moments",
    "starts": "Starts and stops",
    "soak": "A session left alone",
    "inference": "A policy that misbehaves",
    "sensors": "Cameras and topics",
    "machine": "The machine",
    "fuzz": "Inputs that make no sense",
}
HEAD = """# Reliability

What was tried, and what was found. `make chaos` tries a bounded part of it in under ten minutes,
`make soak` all of it in about 75 and writes this page; `make test` includes a short form. All of it
is drawn from a seed (`ARGS="--seed 7"`)."""


def tell(section: str, tried: str, found: str) -> None:
    """Keep one line of the page, and have it printed."""
    proof.keep(section, **{tried: found})
    proof.report(tried, found)


def write(measured: dict[str, proof.Measured]) -> None:
    """Write the page."""
    parts = [HEAD]
    for name, title in SECTIONS.items():
        if name in measured:
            rows = list(measured[name].figures.items())
            lines = proof.table(("Tried", "Found"), [tuple(row) for row in rows])
            parts.append(
                f"## {title}\n\n{lines}\n\n*{measured[name].machine}; {measured[name].date}.*"
            )
    PAGE.write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    write(proof.load(FIGURES))
