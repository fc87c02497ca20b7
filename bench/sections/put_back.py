"""The loop with what was left out of it put back, one thing at a time."""

from __future__ import annotations

from typing import Any

from results import table

from sections.drawing import COLOURS, panels, save

WHAT = {
    "as it is": "**as it is**",
    "messages": "four state messages decoded and kept in each tick",
    "collector": "the same messages, and Python's garbage collector on",
    "log to a file": "`logging.info` once a tick, into a file",
    "log to a terminal": "`logging.info` once a tick, to a terminal",
    "decoding thread": "a Python thread that decodes three cameras' JPEGs",
    "Python thread": "a Python thread that computes in Python",
    "shared lock": "one `multiprocessing.RLock` for state, chunks and frames",
    "no SCHED_FIFO": "the ordinary scheduler in place of SCHED_FIFO",
    "memory not locked": "memory not locked",
    "relative sleep": "`time.sleep` of the rest of the period",
}
KEY = "as it is"


def text(figures: dict[str, Any]) -> str:
    """The table, and what each row is."""
    found: dict[str, dict[str, Any]] = figures["variants"]
    plot(found)
    rows: list[tuple[object, ...]] = [
        (
            what,
            _quantiles(found[name]["wake_us"]),
            _quantiles(found[name]["work_us"]),
            f"{found[name]['lost_per_minute']:.0f}",
            "" if name == KEY else _ratio(found[name]),
        )
        for name, what in WHAT.items()
        if name in found
    ]
    head = (
        "Put back",
        "Wakes late by, µs",
        "Works for, µs",
        "Ticks lost a minute",
        "p99 × as it is",
    )
    return f"""## What a collector, a log, a thread or a lock would cost

The control loop at 1 kHz, on a machine that is kept busy: inference on the other cores, a program
that fills memory and one that writes to the disk on any. It runs as it is, and with one thing put
back at a time as a careful person would have it; everything else stays: SCHED_FIFO, its core,
locked pages, no collector, no threads, absolute sleeps. All by turns, {figures["rounds"]} rounds of
{figures["seconds"]} s each. Times are p50 / p99 / p99.9 / max. A tick is lost when it was due and
did not happen. The ratio is of the p99 from when a tick is due until its work is done, to the loop
as it is in the same round: the median of the rounds, and their range.

{table(head, rows)}

![From when a tick is due until it is done](benchmarks/put_back.svg)

- {_unmoved(found)} A maximum may be the host's doing, in any row.
- A thread computes on the other cores, with the ordinary scheduler. While it runs Python the loop
  cannot: it asks for the interpreter, and gets it after the switch interval of 5 ms at most, or
  later where the thread was put off its core meanwhile.
- Two more processes hold the lock while they copy 691 kB of frames, in at 30 Hz and out at 10 Hz.
  {_behind_a_lock(found["shared lock"])}
- The collector's pause grows with all that was kept: here {figures["seconds"]} s of messages at
  most. What they cost by themselves is the row above it.
- After a relative sleep a tick is due one period after the last one woke. Every late wake puts off
  all that follow, which shows as ticks lost and not as lateness.
- Where memory is not scarce, locking it has nothing to prevent."""


def _unmoved(found: dict[str, dict[str, Any]]) -> str:
    """Which cannot be told from the loop as it is."""
    spread = [WHAT[name] for name in found if name != KEY and found[name]["ratios"][0] <= 1]
    if not spread:
        return "Each moves the p99 in every round."
    return (
        f"Not in every round is the p99 above that of the loop as it is with: {'; '.join(spread)}. "
        "What these cost, if anything, is in the time for the work, in the tail and in lost ticks."
    )


def _behind_a_lock(one: dict[str, Any]) -> str:
    """Whether it shows that another process may keep the lock for long."""
    if one["ratios"][0] > 1:
        return "One that is put off its core meanwhile puts control off too."
    return (
        "One that is put off its core meanwhile would put control off too; these rounds do not "
        "show it:\n  in some the p99 is no higher than that of the loop as it is."
    )


def _quantiles(values: list[float]) -> str:
    return " / ".join(f"{value:,.0f}" for value in values)


def _ratio(one: dict[str, Any]) -> str:
    low, high = one["ratios"]
    return f"**{one['ratio']:.2f}** ({low:.2f} to {high:.2f})"


def plot(found: dict[str, dict[str, Any]]) -> None:
    """p50, p99 and the maximum of each, on a logarithmic axis."""
    names = [name for name in WHAT if name in found][::-1]
    p50, p99, _, most = zip(*(found[name]["late_us"] for name in names), strict=True)
    colours = [COLOURS[2] if name == KEY else COLOURS[0] for name in names]
    figure, (panel,) = panels(1, height=0.3 * len(names) + 0.9)
    panel.barh(names, p99, color=colours, height=0.55, label="p99")
    panel.hlines(names, p99, most, color=colours, linewidth=1)
    panel.plot(most, names, "|", color="#444444", markersize=9, label="max")
    panel.plot(p50, names, "o", color="white", markeredgecolor="#444444", label="p50")
    panel.axvline(1000, color=COLOURS[5], linewidth=0.8, linestyle="--", label="the period")
    panel.set_xscale("log")
    panel.set_xlabel("from when a tick is due until it is done, µs")
    panel.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False)
    save(figure, "put_back")
