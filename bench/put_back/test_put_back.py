"""What a collector, a log, a thread or a lock would cost control: its loop with each put back.

All run by turns in one run, on a busy machine, each in a process of its own; each round's own loop
as it is stands beside them.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator

import numpy as np
import pytest
from feed import session_for
from load import busy
from loop_process import Run
from results import keep, report
from waking import our_loop

from put_back.variants import AS_IT_IS, VARIANTS
from rt.cores import divide
from rt.testing import TWO_ARMS, config

BRIEFLY = (AS_IT_IS, "Python thread", "shared lock", "no SCHED_FIFO")
PERCENTILES = (50, 99, 99.9, 100)


@pytest.fixture(scope="module")
def session() -> Iterator[str]:
    chosen = config(TWO_ARMS, action_chunk_size=50, ticks_per_row=50)  # 1 kHz
    with session_for("putback", chosen) as made:
        yield made.name


def run(session: str, core: int, variant: str, seconds: int) -> Run:
    """The loop with this put back."""
    found = our_loop(session, core, seconds=seconds, variant=variant)
    if found.refused:
        pytest.skip(f"not granted: {found.refused}")
    return found


def figures(runs: list[Run], beside: list[Run]) -> dict[str, object]:
    """Of all runs of a variant, and its ratios to the loop as it is of the same rounds."""
    wake = np.concatenate([r.wake_ns for r in runs]) / 1e3
    work = np.concatenate([r.work_ns for r in runs]) / 1e3
    minutes = sum(r.due * r.period_ns for r in runs) / 60e9
    ratios = [late_p99(r) / late_p99(b) for r, b in zip(runs, beside, strict=True)]
    return {
        "wake_us": np.percentile(wake, PERCENTILES).round(1),
        "work_us": np.percentile(work, PERCENTILES).round(1),
        "late_us": np.percentile(wake + work, PERCENTILES).round(1),
        "lost_per_minute": round(sum(r.lost for r in runs) / minutes, 1),
        "ratio": statistics.median(ratios),
        "ratios": [min(ratios), max(ratios)],
    }


def late_p99(run: Run) -> float:
    """From when a tick was due until it was done, ns."""
    return float(np.percentile(run.wake_ns + run.work_ns, 99))


def test_what_was_left_out(core: int, session: str, long: bool, benchmark) -> None:  # type: ignore[no-untyped-def]
    names = tuple(VARIANTS) if long else BRIEFLY
    rounds, seconds = (4, 4) if long else (1, 1)
    runs: dict[str, list[Run]] = {name: [] for name in names}
    turn = list(names)

    def one_round() -> None:
        for name in turn:
            runs[name].append(run(session, core, name, seconds))
        turn.append(turn.pop(0))  # nobody always comes after the same

    cores = divide("last")
    with busy(cores.others, tuple(os.sched_getaffinity(0))):
        benchmark.pedantic(one_round, rounds=rounds)
    found = {name: figures(runs[name], runs[AS_IT_IS]) for name in names}
    keep("put_back", rounds=rounds, seconds=seconds, variants=found)
    for name, one in found.items():
        report(
            f"1 kHz loop, {name}",
            f"late p50 / p99 / p99.9 / max {one['late_us']} us, {one['lost_per_minute']} ticks "
            f"lost a minute, p99 {one['ratio']:.2f} times as it is",
        )
