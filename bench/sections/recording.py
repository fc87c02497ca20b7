"""What a recording beside a session costs."""

from __future__ import annotations

from typing import Any

from results import table

from sections.drawing import draw_pairs
from sections.words import ratio

PERCENTILES = ("p50", "p99", "p99.9", "max")
WHAT = {"wake": "a tick wakes late by", "work": "a tick works for"}


def text(figures: dict[str, Any]) -> str:
    """The loop with and without a recorder, and what the recorder takes."""
    draw_pairs(
        "recording",
        {f"{what},\np99": {"": figures[of]["ratios"]} for of, what in WHAT.items()},
        "times without a recorder",
    )
    rows = [row(what, figures[of]) for of, what in WHAT.items()]
    (lost, lost_alone), cost = figures["lost"], figures["recorder"]
    return f"""## Recording

A whole session at {figures["hz"]:,} Hz, with the simulator and its three cameras; the robot sways
without end. `rt.record` records it to a disk, and then does not, by turns, {figures["seconds"]:.0f}
s of each in all. In µs, **beside the recorder** / without it; percentiles are of all pairs
together, the ratio is the median of the pairs', and their range.

{table(("What", *PERCENTILES, "p99 ratio"), rows)}

- Ticks lost beside it: {lost}; without it: {lost_alone}.
- The recorder takes {cost["share"]:.0%} of a core, and never control's, for {cost["messages"]:,.0f}
  messages and {cost["megabytes"]:.2f} MB a second: every tick, every chunk, every picture as JPEG.
  Records that it lost: {cost["lost"]}, beside {cost["written"]:,} messages written.

![Every pair's ratio](benchmarks/recording.svg)"""


def row(what: str, found: dict[str, Any]) -> tuple[object, ...]:
    """One line of the table."""
    beside, alone = found["beside"], found["alone"]
    return (
        what,
        *(f"**{beside[q]:,.0f}** / {alone[q]:,.0f}" for q in PERCENTILES),
        ratio(found["ratios"]),
    )
