"""How late ticks wake, beside cyclictest."""

from __future__ import annotations

from typing import Any

import numpy as np
from results import table

from sections.drawing import COLOURS, panels, save

OURS, THEIRS = COLOURS[0], COLOURS[1]
PERCENTILES = ("p50", "p99", "p99.9", "max")


def text(figures: dict[str, Any]) -> str:
    """The table of rates, the plot, and what else was tried."""
    plot(figures)
    rows = [
        row(rate, state, figures[state][rate])
        for rate in sorted(figures["idle"], key=int)
        for state in ("idle", "load")
    ]
    head = ("Hz", "Machine", *PERCENTILES, "p99 ratio", "Ticks lost", "CPU")
    short = [int(rate) for rate in figures["idle"] if figures["idle"][rate]["due"] < 10_000]
    few = f" At up to {max(short)} Hz p99.9 rests on fewer than ten ticks." if short else ""
    return f"""## Tick jitter

How late a tick wakes after it was due, in µs: **the control loop**, executing a chunk, and then
cyclictest (C, from rt-tests), by turns, on the same core with the same SCHED_FIFO priority and
period. Under load the demonstration policy computes without a pause and three cameras film, on the
other cores as `rt.launch` has them; a program that copies 256 MB to and fro and one that writes to
the disk and waits for it (`fsync`) run on any core, control's too. Percentiles are of all pairs
together, the ratio is the median of the pairs' and their range. Nothing is dropped: what a host
takes from a virtual machine shows in both.{few}

{table(head, rows)}

A tick is lost when it was due and was skipped, because the one before was not done. CPU is the
process's own time as a share of one core, without its start; a few µs a tick of it play the
robot and inference.

![Histograms of the wake error, and the wake error over time](benchmarks/jitter.svg)

{drift(figures["drift"])}

{acceptance(figures["acceptance"])}

{spin(figures["spin"])}

{whole_session(figures["session"])}"""


def row(rate: str, state: str, found: dict[str, Any]) -> tuple[object, ...]:
    """One rate on an idle or a busy machine."""
    median, low, high = found["ratio"]
    return (
        rate,
        {"idle": "idle", "load": "under load"}[state],
        *(f"**{found['ours'][q]:.0f}** / {found['theirs'][q]:.0f}" for q in PERCENTILES),
        f"{median:.2f} ({low:.2f} to {high:.2f})",
        f"{found['lost']} of {found['due']:,}",
        f"{found['cpu']:.1%}",
    )


def drift(found: dict[str, Any]) -> str:
    """Absolute deadlines beside relative sleeps."""
    ours, relative = found["trends"]
    return f"""**Drift: none.** In {found["seconds"]:g} s at 1 kHz each of {found["ticks"]:,} ticks
was due at epoch + k · period to the nanosecond; the wake error had a trend of {ours:+,.0f} ns/s
(how late a tick wakes varies within a run; when it is due does not). The same loop with a period's
sleep after each tick fell behind by {relative / 1e6:,.0f} ms a second."""


def acceptance(found: dict[str, Any]) -> str:
    """openpilot's bounds."""
    off, std = abs(found["mean"] - 1), found["std"]
    return f"""**openpilot's acceptance** (`selfdrive/test/test_onroad.py`) asks for a mean period
within 3 % of the nominal and a standard deviation of at most 35 % of it. At 20 Hz under load, in
{found["periods"]} periods, the mean was {off:.4%} off and the standard deviation {std:.2%}."""


def spin(found: dict[str, Any]) -> str:
    """What `spin_us` buys."""
    (p50, slept), (cpu, cpu_slept) = found["p50"], found["cpu"]
    return f"""**A spinning tail** (`spin_us: {found["us"]}`) brought the median at 1 kHz from
{slept:.0f} to {p50:.1f} µs, for {cpu:.0%} of the core in place of {cpu_slept:.0%}."""


def whole_session(found: dict[str, Any]) -> str:
    """1 kHz with everything that launch starts."""
    lost, wake, work = found["overruns"], found["wake"], found["work"]
    return f"""**A whole session at 1 kHz**, simulator, inference and supervisor beside control,
lost {lost} of {found["tick"]:,} ticks, on {found["occasions"]} occasions, and held in
{found["holds"]}, for want of a row to execute, as before each episode's first chunk. cyclictest,
above it on the same core at the same time at 5 kHz, was late by {found["late_us"]} µs or more
{found["late"]} times, by {found["max"]:,} µs at most. Wake error p50
{wake["p50"]:.0f}, p99 {wake["p99"]:.0f} µs; the tick's work p50 {work["p50"]:.0f}, p99
{work["p99"]:.0f} µs."""


def plot(figures: dict[str, Any]) -> None:
    """Two histograms of the highest rate and its wake error over time under load."""
    bins, rate = np.array(figures["bins"]), figures["shown"]
    figure, (*histograms, over_time) = panels(3, width=11.0, height=3.0)
    for panel, state in zip(histograms, ("idle", "load"), strict=True):
        ours, theirs = (np.array(n) / sum(n) for n in figures[f"{state}_histogram"])
        panel.stairs(theirs, bins, color=THEIRS, label="cyclictest")
        panel.stairs(ours, bins, color=OURS, label="control")
        panel.set(xscale="log", yscale="log", xlabel="wake error, µs")
        panel.set_title(f"{rate} Hz, {'idle' if state == 'idle' else 'under load'}")
    histograms[0].set_ylabel("share of ticks")
    histograms[0].legend(frameon=False)
    medians, most = figures["over_time"]
    t_s = np.arange(len(medians)) * figures["block"] / rate
    over_time.plot(t_s, most, lw=0.5, color=OURS, label=f"most of {figures['block']} ticks")
    over_time.plot(t_s, medians, color=COLOURS[-1], lw=0.8, label="their median")
    over_time.set(yscale="log", xlabel="time, s", title=f"{rate} Hz, under load", ylabel="µs")
    over_time.legend(frameon=False)
    save(figure, "jitter")
