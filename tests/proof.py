"""What a run measured: printed at its end, and kept as JSON beside the page written from it.

A page (docs/benchmarks.md, docs/reliability.md) has sections; the tests of a run keep the figures
of some of them, each with the machine and the day. A section that was not measured stays as it was.
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

    def write(self, failed: Sequence[str] = ()) -> None:
        """Keep what this run measured, and write the page from all that was kept so far; on top,
        what `failed` in this run: nothing else on the page would tell."""
        kept = DOCS / f"{self.name}.json"
        if SECTIONS:
            _save(kept)
        measured, parts = _load(kept), [self.head]
        if failed:
            parts.append(f"**Failed in the newest run:** {', '.join(failed)}.")
        for section in self.sections:
            if found := measured.get(section):
                try:
                    text = self.text(section, found.figures).strip()
                except KeyError as missing:  # of a test that failed: the others are not lost
                    text = f"## {section}\n\n**Not measured in full:** {missing} is missing."
                parts.append(f"{text}\n\n*{found.machine}; {found.date}.*")
        (DOCS / f"{self.name}.md").write_text("\n\n".join(parts) + "\n")


def conclude(terminal: pytest.TerminalReporter, page: Page, *, write: bool) -> None:
    """At the end of a run: print all that was reported, with the machine; `write`: the page too."""
    if LINES:
        terminal.section(f"measured on {machine()}")
        for line in LINES:
            terminal.write_line(line)
    if write and SECTIONS:
        broken = terminal.stats.get("failed", []) + terminal.stats.get("error", [])
        page.write([f"`{report.nodeid}`" for report in broken])


def table(head: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> str:
    """A table in Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _load(path: Path) -> dict[str, Measured]:
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Measured]) if path.exists() else {}


def _save(path: Path) -> None:
    """Put this run's sections in the place of those that the file has."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    new = {name: Measured(machine(), today, figures) for name, figures in SECTIONS.items()}
    encoded = msgspec.json.encode(_load(path) | new, enc_hook=_plain)
    path.write_bytes(msgspec.json.format(encoded, indent=1) + b"\n")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise NotImplementedError(f"{type(value).__name__} cannot be kept")
