"""Tick statistics from tick records: distributions in bounded memory, over any length of run."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rt.shm import Ring

# 100 ns to 100 s in steps of 2 %: a percentile read from these bins is at most that far off.
EDGES_NS = np.geomspace(1e2, 1e11, 1050)
MARGIN = 64  # slots left free for the writer while we copy the rest


class Distribution:
    """How often which duration occurred; the maximum is exact."""

    def __init__(self) -> None:
        self.count = 0
        self.max_ns = 0
        self._bins = np.zeros(len(EDGES_NS) + 1, np.int64)

    def add(self, durations_ns: NDArray[np.int64]) -> None:
        """Any shape; nothing is dropped."""
        if durations_ns.size:
            self.count += durations_ns.size
            self.max_ns = max(self.max_ns, int(durations_ns.max()))
            places = np.searchsorted(EDGES_NS, durations_ns.ravel())
            self._bins += np.bincount(places, minlength=len(self._bins))

    def percentile_us(self, percent: float) -> float:
        """The duration that `percent` % did not exceed, us; 0 when nothing was added."""
        if not self.count:
            return 0.0
        place = int(np.searchsorted(np.cumsum(self._bins), percent / 100 * self.count))
        return float(min(EDGES_NS[min(place, len(EDGES_NS) - 1)], self.max_ns) / 1e3)

    def summary(self) -> dict[str, float]:
        """p50, p99, p99.9 and max, us."""
        return {
            "p50": round(self.percentile_us(50), 1),
            "p99": round(self.percentile_us(99), 1),
            "p99.9": round(self.percentile_us(99.9), 1),
            "max": round(self.max_ns / 1e3, 1),
        }


class TickStatistics:
    """Follows the tick ring: call `update` often enough that the ring does not come round."""

    def __init__(self, ticks: Ring) -> None:
        self.wake_error = Distribution()
        self.work = Distribution()
        self.missed = 0  # records that were overwritten before we came
        self.rate_hz = 0.0  # over the last update that brought two records or more
        self.last: Any = None  # the newest record
        self._ticks = ticks
        self._seen = 0
        self._window = np.zeros(ticks.slots - MARGIN, ticks.dtype)

    def update(self) -> NDArray[np.void]:
        """Take in what is new; returns the new records, oldest first."""
        index = None
        while True:
            new = min(self._ticks.head - self._seen, len(self._window))
            if new > 0:
                index = self._ticks.read_window(self._window, new)
            if index is None:
                return self._window[:0]
            if index + 1 - new <= self._seen or new == len(self._window):
                break  # else: more were published between the two looks at head; take those too
        window = self._window[:new]
        self.missed += index + 1 - new - self._seen
        self._seen = index + 1
        self.wake_error.add(window["t_wake"] - window["t_due"])
        self.work.add(window["t_done"] - window["t_wake"])
        if new > 1:
            span = int(window["t_wake"][-1]) - int(window["t_wake"][0])
            self.rate_hz = (new - 1) * 1e9 / span if span else 0.0
        self.last = window[-1].copy()
        return window
