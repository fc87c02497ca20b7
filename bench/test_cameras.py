"""How late the loop wakes beside three cameras, and what they cost.

Their processes run all the while, and are stopped (SIGSTOP) for every other round.
"""

from __future__ import annotations

import signal
import statistics
import time
from pathlib import Path

import numpy as np
from budgets import judge
from filming import FPS, HEIGHT, WIDTH, filming
from ratio import told
from results import keep, report
from waking import our_loop


def wake_p99_us(session: str, core: int, seconds: float) -> float:
    """The loop's p99 wake error."""
    return float(np.percentile(our_loop(session, core, seconds=seconds).wake_ns, 99)) / 1e3


def test_wake_error_beside_three_cameras(  # type: ignore[no-untyped-def]
    tmp_path: Path, core: int, benchmark, long: bool
) -> None:
    count, seconds = (9, 3.0) if long else (3, 1.5)
    pairs = []
    shares: list[float] = []  # of one core, of one process, while they ran
    rates: list[float] = []  # frames a second, of one camera

    with filming(tmp_path) as cameras:

        def one_pair() -> None:
            cameras.signal(signal.SIGCONT)
            began, (cpu, frames) = time.monotonic(), cameras.counts()
            beside = wake_p99_us(cameras.session, core, seconds)
            took, (cpu_after, frames_after) = time.monotonic() - began, cameras.counts()
            shares.extend((b - a) / took for a, b in zip(cpu, cpu_after, strict=True))
            rates.extend((b - a) / took for a, b in zip(frames, frames_after, strict=True))
            cameras.signal(signal.SIGSTOP)
            pairs.append((beside, wake_p99_us(cameras.session, core, seconds)))

        benchmark.pedantic(one_pair, rounds=count)
    ratios = [beside / alone for beside, alone in pairs]
    beside, alone = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
    share, rate = statistics.median(shares), statistics.median(rates)
    keep(
        "real_robot",
        cameras={
            "what": f"{WIDTH}×{HEIGHT} MJPG at {FPS} fps",
            "beside_us": beside,
            "alone_us": alone,
            "ratios": ratios,
            "share": share,
            "rate": rate,
        },
    )
    report(
        f"wake error at 1 kHz beside three {WIDTH}x{HEIGHT} MJPG cameras at {FPS} fps",
        f"p99 {beside:.0f} us; without them {alone:.0f} us; ratio {told(ratios)}, {count} "
        "alternated pairs",
    )
    report("a camera's process", f"{100 * share:.1f} % of a core, {rate:.1f} frames a second")
    assert rate >= 0.95 * FPS, f"{rate:.1f} frames a second of {FPS}: is the machine busy?"
    judge("wake.cameras.p99", ratios)
