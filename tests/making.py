"""What the fixtures of conftest.py give, and what happens in runs."""

from __future__ import annotations

from collections.abc import Callable

from rt.shm import Ring
from rt.testing import SimulatedRun

MakeRing = Callable[..., Ring]
Simulate = Callable[..., SimulatedRun]


def late_once(n: int) -> float:
    """Ticks that inference n takes: the fifth longer than planned."""
    return 6.5 if n == 5 else 2.5


def with_silence(run: SimulatedRun, ticks: int, at: int, silent: int = 3) -> SimulatedRun:
    """So many ticks of it; from the tick `at` on the robot gives no state in `silent` of them."""
    run.tick(at)
    run.robot.reading = "none"
    run.tick(silent)
    run.robot.reading = "fresh"
    run.tick(ticks - at - silent)
    return run
