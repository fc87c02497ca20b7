"""How the cost of a chunk's ring grows."""

from __future__ import annotations

from typing import Any

from results import table

from sections.drawing import COLOURS, panels, save

AXES = {"joints": "joints", "rows": "rows of a chunk (H)", "readers": "readers"}


def text(figures: dict[str, Any]) -> str:
    """The ends of each line as a table, and the lines."""
    plot(figures)
    rows: list[tuple[object, ...]] = []
    for axis, name in AXES.items():
        for what in ("write", "read"):
            line = ordered(figures[axis][what])
            (small, least), (large, most) = line[0], line[-1]
            rows.append(
                (
                    f"{name}, {small} to {large}",
                    what,
                    f"{least:.2f}",
                    f"{most:.2f}",
                    f"{most / least:.2f}×",
                )
            )
    return f"""## How the ring's cost grows

CPU time of writing one chunk's record, and of reading the newest; 24 joints and 50 rows where
nothing else is said, sizes by turns. Each further reader is a process that reads 200 times a
second. A writer never looks at its readers, so they can only compete with it for the machine. A
step in the writes at a payload of 16,448 bytes is that from there on [the writer's fences are
real](protocol.md#memory-order) on x86-64.

{table(("Over", "What", "Smallest, µs", "Largest, µs", "Grows by"), rows)}

![Cost over joints, rows and readers](benchmarks/growth_ring.svg)"""


def plot(figures: dict[str, Any]) -> None:
    """A panel for each axis."""
    figure, axes = panels(len(AXES), height=2.4)
    for panel, (axis, name) in zip(axes, AXES.items(), strict=True):
        for what, colour in zip(("write", "read"), COLOURS, strict=False):
            panel.plot(*zip(*ordered(figures[axis][what]), strict=True), "o-", color=colour, ms=3)
            panel.lines[-1].set_label(what)
        panel.set_xlabel(name)
        panel.set_ylim(bottom=0)
    axes[0].set_ylabel("µs")
    axes[-1].legend(frameon=False)
    save(figure, "growth_ring")


def ordered(line: dict[str, float]) -> list[tuple[int, float]]:
    """By size; JSON knows no numbers as keys."""
    return sorted((int(size), us) for size, us in line.items())
