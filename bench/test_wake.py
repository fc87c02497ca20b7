"""Of the wait between two ticks: that it does not drift, and what a spinning tail buys."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import numpy as np
import pytest
from budgets import judge
from loop_process import Run
from results import keep, report
from waking import our_loop, session_at

SPIN_US = 150


@pytest.fixture(scope="module")
def session() -> Iterator[str]:
    with session_at(1000) as name:
        yield name


def trend(run: Run) -> float:
    """By how much it falls behind epoch + k periods, ns a second: the line through the medians of
    ten parts, so that what stole the core for a moment does not count."""
    k, _, awake, _ = run.times
    parts = np.array_split(awake - (run.epoch_ns + k * run.period_ns), 10)
    at_s = np.linspace(0.05, 0.95, 10) * len(k) * run.period_ns / 1e9
    return float(np.polyfit(at_s, [np.median(part) for part in parts], 1)[0])


def test_ticks_do_not_drift(  # type: ignore[no-untyped-def]
    core: int, session: str, long: bool, benchmark
) -> None:
    """Beside the negative control, which sleeps a period after each tick."""
    seconds = 30.0 if long else 2.0
    runs = []

    def both() -> None:
        runs.append(our_loop(session, core, seconds=seconds))
        runs.append(our_loop(session, core, seconds=seconds / 4, variant="whole sleep"))

    benchmark.pedantic(both, rounds=1)
    ours, relative = runs
    k, due, _, _ = ours.times
    off = due - (ours.epoch_ns + k * ours.period_ns)
    trends = trend(ours), trend(relative)
    report(
        f"drift over {seconds:g} s at 1 kHz",
        f"the last tick was due {off[-1]} ns from epoch + {k[-1]} periods; the wake error's trend "
        f"{trends[0]:+.0f} ns/s; relative sleeps {trends[1]:+.0f} ns/s",
    )
    assert not off.any(), "a tick was not due at epoch + k periods"
    assert abs(trends[0]) <= trends[1] / 1000
    keep("jitter", drift={"seconds": seconds, "ticks": len(k), "trends": trends})


def p50_us(run: Run) -> float:
    """The median wake error."""
    return float(np.median(run.wake_ns)) / 1e3


def test_wake_error_with_a_spinning_tail(  # type: ignore[no-untyped-def]
    core: int, session: str, long: bool, benchmark
) -> None:
    pairs = []

    def one_pair() -> None:
        spun = our_loop(session, core, seconds=0.4, spin_us=SPIN_US)
        pairs.append((spun, our_loop(session, core, seconds=0.4)))

    benchmark.pedantic(one_pair, rounds=7 if long else 3)
    p50, slept = (statistics.median(p50_us(pair[i]) for pair in pairs) for i in (0, 1))
    cpu, cpu_slept = (statistics.median(pair[i].cpu for pair in pairs) for i in (0, 1))
    keep("jitter", spin={"us": SPIN_US, "p50": [p50, slept], "cpu": [cpu, cpu_slept]})
    report(
        f"wake error at 1 kHz with the last {SPIN_US} us spun",
        f"p50 {p50:.2f} us, {cpu:.0%} of the core; slept {slept:.0f} us, {cpu_slept:.0%}",
    )
    judge("wake.spin", [p50_us(spun) / p50_us(asleep) for spun, asleep in pairs])
