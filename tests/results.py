"""What a run measured: printed at its end, and kept as JSON beside the page written from it.

A page (docs/benchmarks.md, docs/reliability.md) has sections; the tests of a run keep the figures
of some of them, each with the machine, the day, the commit and how it was run. A section that was
not measured stays as it was, and so does the word that a test failed, until it passes. A run of a
part, or one that was interrupted, leaves the page alone: a section is of one run, but for those
that several files fill, which tell what run the rest of their figures is of.
"""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest

DOCS = Path(__file__).parents[1] / "docs"
LINES: list[str] = []  # to print at the end of the run
SECTIONS: dict[str, dict[str, Any]] = {}  # figures of this run, by section
BEGAN = time.monotonic()
# Beside the sections: the tests that failed when they ran last, and on what day; and those that
# were skipped, and why.
FAILED, SKIPPED = "failed", "skipped"


class Measured(msgspec.Struct):
    """One section's figures, and where they are from."""

    machine: str
    date: str
    figures: dict[str, Any]
    run: str = ""  # its commit, flags and minutes

    def __str__(self) -> str:
        return "; ".join(filter(None, (self.machine, self.date, self.run)))


class Outcome(NamedTuple):
    """How the tests of a run ended."""

    passed: list[str]
    failed: list[str]
    skipped: dict[str, str]  # and why


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
    gathered: Iterable[str] = ()  # the sections that several files fill

    def save(self, outcome: Outcome, run: str) -> None:
        """Keep what this run measured, and which of its tests failed or were skipped."""
        kept, today = self._load(), datetime.datetime.now(datetime.UTC).date().isoformat()
        ran = {*outcome.passed, *outcome.failed, *outcome.skipped}
        failed, skipped = (
            {test: words for test, words in _figures(kept, what).items() if test not in ran}
            for what in (FAILED, SKIPPED)
        )
        figures = SECTIONS | {
            FAILED: failed | dict.fromkeys(outcome.failed, today),
            SKIPPED: skipped | outcome.skipped,
        }
        new = {name: Measured(machine(), today, found, run) for name, found in figures.items()}
        for name in {*self.gathered} & {*kept} & {*SECTIONS}:
            new[name] = _gathered(kept[name], new[name])
        encoded = msgspec.json.encode(kept | new, enc_hook=_plain)
        self._kept.write_bytes(msgspec.json.format(encoded, indent=1) + b"\n")

    def write(self) -> None:
        """Write the page from all that was kept so far; on top, what failed or was skipped: nothing
        else on it would tell."""
        measured, parts = self._load(), [self.head]
        for what, words in ((FAILED, "Failed when run last"), (SKIPPED, "Not tried here")):
            if found := _figures(measured, what):
                tests = "".join(f"\n- `{test}` ({why})" for test, why in found.items())
                parts.append(f"**{words}:**\n{tests}")
        for section in self.sections:
            if kept := measured.get(section):
                try:
                    text = self.text(section, kept.figures).strip()
                except KeyError as missing:  # of a test that failed: the others are not lost
                    text = f"## {section}\n\n**Not measured in full:** {missing} is missing."
                parts.append(f"{text}\n\n*{kept}.*")
        (DOCS / f"{self.name}.md").write_text("\n\n".join(parts) + "\n")

    @property
    def _kept(self) -> Path:
        return DOCS / f"{self.name}.json"

    def _load(self) -> dict[str, Measured]:
        if not self._kept.exists():
            return {}
        return msgspec.json.decode(self._kept.read_bytes(), type=dict[str, Measured])


def conclude(terminal: pytest.TerminalReporter, page: Page, exit_code: int, flags: str) -> None:
    """At the end of a run: print all that was reported, with the machine; with --write the page
    too. `flags`: how it was run."""
    if LINES:
        terminal.section(f"measured on {machine()}")
        for line in LINES:
            terminal.write_line(line)
    if not terminal.config.getoption("--write"):
        return
    stats = terminal.stats
    if "deselected" in stats or exit_code == pytest.ExitCode.INTERRUPTED:
        terminal.write_line(f"docs/{page.name}.md is left as it was: only a part was run")
        return
    failed = [test.nodeid for how in ("failed", "error") for test in stats.get(how, [])]
    skipped = {test.nodeid: test.longrepr[2] for test in stats.get("skipped", [])}
    passed = [test.nodeid for test in stats.get("passed", [])]
    minutes = round((time.monotonic() - BEGAN) / 60)
    page.save(Outcome(passed, failed, skipped), f"commit {commit()}, `{flags}`, {minutes} min")
    page.write()


def commit() -> str:
    """The commit that is run; pages that another run has just written do not change it."""
    command = ("git", "describe", "--always", "--exclude=*")
    told = subprocess.run(command, cwd=DOCS, capture_output=True, text=True).stdout.strip()
    changed = ("git", "diff", "--quiet", "HEAD", "--", ":/", ":(top,exclude)docs")
    dirty = subprocess.run(changed, cwd=DOCS, capture_output=True).returncode
    return told + ("-dirty" if dirty else "") if told else "none"


def table(head: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> str:
    """A table in Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _gathered(old: Measured, new: Measured) -> Measured:
    """What was measured now, and of `old` what was not."""
    if set(old.figures) <= set(new.figures):
        return new
    run = f"{new.run} (the rest: {old})"  # and all of its history, until all is measured again
    return Measured(new.machine, new.date, old.figures | new.figures, run)


def _figures(measured: dict[str, Measured], section: str) -> dict[str, Any]:
    return measured[section].figures if section in measured else {}


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise NotImplementedError(f"{type(value).__name__} cannot be kept")
