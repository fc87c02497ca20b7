"""Publication is the swap: how long a chunk waits for its first tick."""

from __future__ import annotations

from typing import Any

import numpy as np
from results import table

from sections.drawing import COLOURS, panels, save

QUANTILES = {
    "p50": "p50_ms",
    "p99": "p99_ms",
    "max": "max_ms",
}


def text(figures: dict[str, Any]) -> str:
    """Both runs in a table, and their waits as histograms."""
    runs = [
        (name, figures[key])
        for key, name in (
            ("fast", "control alone at 1 kHz, chunks at random moments"),
            ("session", "a whole session at 20 Hz, warm chunks"),
        )
        if key in figures
    ]
    _draw(runs)
    head = ("", "Published", "Used", "Superseded", "Late", "Lost", *QUANTILES)
    rows: list[tuple[object, ...]] = [
        (
            *(name, f["published"], f["used"], f["superseded"]),
            *(f"**{f['late']}**", f"**{f['lost']}**"),
            *(f"{f[key]:.2f} ms" for key in QUANTILES.values()),
        )
        for name, f in runs
    ]
    return f"""## Swap

From a chunk's publication to the wake of the first tick that uses it. Control looks at the ring at
every tick and computes its row from the tick, so there is nothing to hand over: a chunk waits for
the next tick, anywhere between nothing and one period.

{table(head, rows)}

- *Late*: a tick that woke after the publication used an older chunk. *Lost*: late, and never used.
  *Superseded*: a newer chunk was there before any tick could have used this one, or its episode had
  ended.
- A wait is at most one period, the wake error of the tick that ends it, and what the publication
  itself took; longer only where control skipped ticks, or held them. `pytest bench` fails where a
  chunk waited longer than that, and for any that is late, lost or used again.
{_fast(figures)}{_delays(figures)}
![How long chunks waited for their first tick](benchmarks/swap.svg)"""


def _fast(figures: dict[str, Any]) -> str:
    """How it was measured at 1 kHz, and what made the longest wait so long."""
    if "fast" not in figures:
        return ""
    fast = figures["fast"]
    held = ", ".join(f"{count} {name}" for name, count in fast["held"].items()) or "none"
    longest = fast["longest"]
    return (
        "- At 1 kHz the real control process ran, with chunks at exponentially distributed "
        f"moments, {fast['mean_gap_ms']:.0f} ms apart in the mean. Ticks that held: {held}."
        " (One process plays inference and the robot: while the machine does not run it, there is "
        "no state.)\n"
        f"- The longest wait at 1 kHz, {fast['max_ms']:.2f} ms, ended with a tick that woke "
        f"{longest['woke_late_ms']:.2f} ms late; ticks skipped or held just before it: "
        f"{longest['skipped']}; the publication itself took {longest['publishing_ms']:.2f} ms.\n"
    )


def _delays(figures: dict[str, Any]) -> str:
    """How many ticks lay between an observation and the first use, in the session."""
    delays = figures.get("session", {}).get("delays", [])
    if not delays:
        return ""
    told = ", ".join(f"{count} after {ticks}" for ticks, count in delays)
    return f"- Ticks from the observation to the first use, in the session: {told}.\n"


def _draw(runs: list[tuple[str, dict[str, Any]]]) -> None:
    figure, axes = panels(len(runs))
    for panel, (name, f) in zip(axes, runs, strict=True):
        counts = np.array(f["histogram"])
        edges_ms = np.arange(len(counts)) / len(counts) * f["period_ms"]
        width = edges_ms[1]
        panel.bar(edges_ms, counts, width, align="edge", color=COLOURS[0], edgecolor="white")
        panel.set_title(name, loc="left", fontsize=9)
        panel.set_xlabel("waited, ms (the last bar: longer too)")
        panel.set_ylabel("chunks")
    save(figure, "swap")
