"""Ours against a peer, in alternated pairs, so that a busy machine slows both alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from results import report

_SECONDS = 0.03  # of one side of one pair


@dataclass(frozen=True)
class Ratio:
    """How many times the peer's time ours takes, over the pairs, and both medians in us."""

    pairs: tuple[float, ...]
    ours_us: float
    peer_us: float

    @property
    def median(self) -> float:
        """The middle one of the pairs."""
        return statistics.median(self.pairs)

    def report(self, what: str, ours: str, peer: str) -> None:
        """Have the figures printed at the end of the run."""
        report(
            what,
            f"{ours} {_time(self.ours_us)}, {peer} {_time(self.peer_us)}; ratio {told(self.pairs)}",
        )


def told(ratios: Sequence[float]) -> str:
    """Their median, and their range."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def ratio(ours: Callable[[], object], peer: Callable[[], object], pairs: int = 7) -> Ratio:
    """Time `ours` and `peer` by turns, `pairs` times. Nothing is dropped."""
    repeats = [_repeats(call) for call in (ours, peer)]
    collecting = gc.isenabled()
    gc.disable()
    try:
        rows = [(_seconds(ours, repeats[0]), _seconds(peer, repeats[1])) for _ in range(pairs)]
    finally:
        if collecting:
            gc.enable()
    ours_s, peer_s = (statistics.median(row[side] for row in rows) for side in (0, 1))
    return Ratio(tuple(row[0] / row[1] for row in rows), ours_s * 1e6, peer_s * 1e6)


def cpu_us(call: Callable[[], object], repeats: int) -> float:
    """CPU time of a call, of all threads: who waits for another one pays nothing meanwhile."""
    gc.disable()
    start = time.process_time_ns()
    for _ in range(repeats):
        call()
    took = time.process_time_ns() - start
    gc.enable()
    return took / repeats / 1e3


def _time(us: float) -> str:
    return f"{us:.2f} us" if us < 1000 else f"{us / 1e3:.2f} ms"


def _repeats(call: Callable[[], object]) -> int:
    """How often to call it for one measurement; also warms it up."""
    repeats = 1
    while (took := repeats * _seconds(call, repeats)) < _SECONDS / 4:
        repeats *= 2
    return max(1, round(repeats * _SECONDS / took))


def _seconds(call: Callable[[], object], repeats: int) -> float:
    """Seconds per call."""
    began = time.perf_counter_ns()
    for _ in range(repeats):
        call()
    return (time.perf_counter_ns() - began) / repeats / 1e9
