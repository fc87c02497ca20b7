"""Tick statistics from tick records: distributions in bounded memory, over any length of run."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rt.shm import Ring
from rt.tail import Tail

# 100 ns to 100 s in steps of 2 %: a percentile read from these bins is at most that far off.
EDGES_NS = np.geomspace(1e2, 1e11, 1050)


class Distribution:
    """How often which duration occurred; the maximum and the sum are exact."""

    def __init__(self) -> None:
        self.count = 0
        self.sum_ns = 0
        self.max_ns = 0
        self._bins = np.zeros(len(EDGES_NS) + 1, np.int64)

    def add(self, durations_ns: NDArray[np.int64]) -> None:
        """Any shape; nothing is dropped."""
        if durations_ns.size:
            self.count += durations_ns.size
            self.sum_ns += int(durations_ns.sum())
            self.max_ns = max(self.max_ns, int(durations_ns.max()))
            places = np.searchsorted(EDGES_NS, durations_ns.ravel())
            self._bins += np.bincount(places, minlength=len(self._bins))

    def percentile_us(self, percent: float) -> float:
        """The duration that `percent` % did not exceed, us; 0 when nothing was added."""
        if not self.count:
            return 0.0
        place = int(np.searchsorted(np.cumsum(self._bins), percent / 100 * self.count))
        return float(min(EDGES_NS[min(place, len(EDGES_NS) - 1)], self.max_ns) / 1e3)

    def within(self, limits_ns: NDArray[np.float64]) -> list[int]:
        """How many took no longer than each of `limits_ns`; some up to 2 % longer are counted."""
        within: list[int] = np.cumsum(self._bins)[np.searchsorted(EDGES_NS, limits_ns)].tolist()
        return within

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
        self.rate_hz = 0.0  # over the last update that brought two records or more
        self.last: Any = None  # the newest record
        self._tail = Tail(ticks)

    @property
    def missed(self) -> int:
        """Records that were overwritten before we came."""
        return self._tail.missed

    def update(self) -> NDArray[Any]:
        """Take in what is new; returns the new records, oldest first, until the next update."""
        new = self._tail.new()
        if not len(new):
            return new
        self.wake_error.add(new["t_wake"] - new["t_due"])
        self.work.add(new["t_done"] - new["t_wake"])
        if len(new) > 1:
            span = int(new["t_wake"][-1]) - int(new["t_wake"][0])
            self.rate_hz = (len(new) - 1) * 1e9 / span if span else 0.0
        self.last = new[-1].copy()
        return new
