"""What a run measured: printed at its end, and kept as JSON beside the page written from it.

A page (docs/benchmarks.md, docs/reliability.md) has sections; the tests of a run keep the figures
of some of them, each with the machine and the day. A section that was not measured stays as it was,
and so does the word that a test failed, until it passes.
"""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

DOCS = Path(__file__).parents[1] / "docs"
LINES: list[str] = []  # to print at the end of the run
SECTIONS: dict[str, dict[str, Any]] = {}  # figures of this run, by section
OUTCOMES = ("failed", "error", "passed")
FAILED = "failed"  # beside the sections: the tests that failed when they ran last, and on what day


class Measured(msgspec.Struct):
    """One section's figures, and where they are from."""

    machine: str
    date: str
    figures: dict[str, Any]


def report(what: str, figures: str) -> None:
    """Have one line printed at the end of the run, also under -q."""
    LINES.append(f"{what}: {figures}")


def keep(section: str, **figures: Any) -> None:
    """Keep figures for a section of the page: anything that JSON holds, numpy's numbers too."""
    SECTIONS.setdefault(section, {}).update(figures)


def machine() -> str:
    """The hardware and the kernel, in a line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    virtual = any(" hypervisor" in line for line in lines if line.startswith("flags"))
    cpu = models[0] if models else platform.machine()
    cores = f"{os.cpu_count()} {'virtual cores' if virtual else 'cores'}"
    return f"{cpu}, {cores}, Linux {platform.release()}"


@dataclass(frozen=True)
class Page:
    """docs/NAME.md, written from docs/NAME.json, where the figures are kept."""

    name: str
    head: str
    sections: Iterable[str]  # in their order
    text: Callable[[str, dict[str, Any]], str]  # a section's, in Markdown, from its figures

    def save(self, *, failed: Iterable[str] = (), passed: Iterable[str] = ()) -> None:
        """Keep what this run measured, and which of its tests failed."""
        kept, today = self._load(), datetime.datetime.now(datetime.UTC).date().isoformat()
        before = kept[FAILED].figures if FAILED in kept else {}
        still = {test: day for test, day in before.items() if test not in {*passed}}
        figures = SECTIONS | {FAILED: still | dict.fromkeys(failed, today)}
        new = {name: Measured(machine(), today, found) for name, found in figures.items()}
        encoded = msgspec.json.encode(kept | new, enc_hook=_plain)
        self._kept.write_bytes(msgspec.json.format(encoded, indent=1) + b"\n")

    def write(self) -> None:
        """Write the page from all that was kept so far; on top, what failed: nothing else on it
        would tell."""
        measured, parts = self._load(), [self.head]
        if FAILED in measured and (failed := measured[FAILED].figures):
            told = ", ".join(f"`{test}` ({day})" for test, day in failed.items())
            parts.append(f"**Failed when run last:** {told}.")
        for section in self.sections:
            if found := measured.get(section):
                try:
                    text = self.text(section, found.figures).strip()
                except KeyError as missing:  # of a test that failed: the others are not lost
                    text = f"## {section}\n\n**Not measured in full:** {missing} is missing."
                parts.append(f"{text}\n\n*{found.machine}; {found.date}.*")
        (DOCS / f"{self.name}.md").write_text("\n\n".join(parts) + "\n")

    @property
    def _kept(self) -> Path:
        return DOCS / f"{self.name}.json"

    def _load(self) -> dict[str, Measured]:
        if not self._kept.exists():
            return {}
        return msgspec.json.decode(self._kept.read_bytes(), type=dict[str, Measured])


def conclude(terminal: pytest.TerminalReporter, page: Page, *, write: bool) -> None:
    """At the end of a run: print all that was reported, with the machine; `write`: the page too."""
    if LINES:
        terminal.section(f"measured on {machine()}")
        for line in LINES:
            terminal.write_line(line)
    if write:
        ended = {how: [test.nodeid for test in terminal.stats.get(how, [])] for how in OUTCOMES}
        page.save(failed=ended["failed"] + ended["error"], passed=ended["passed"])
        page.write()


def table(head: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> str:
    """A table in Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise NotImplementedError(f"{type(value).__name__} cannot be kept")
