"""When the ticks are: tick k is due at epoch + k * period. Late ticks are skipped, never burst."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from rt import clock


class Tick(NamedTuple):
    """One tick's number and times, ns."""

    k: int
    t_due: int
    t_wake: int


class Ticker:
    """Waits for each tick in turn.

    Guarantees:
      - `wait` never returns before a tick is due, nor twice for one tick.
      - After work that ran past one or more due times it skips to the next due tick: three ticks
        never come within one period. What was skipped is returned in `skipped`.
    """

    def __init__(
        self,
        period_ns: int,
        *,
        spin_ns: int = 0,
        now_ns: Callable[[], int] = clock.now_ns,
        sleep_until: Callable[[int], object] = clock.sleep_until,
    ) -> None:
        """`spin_ns` of each wait are spent spinning: a core's share for a sharper wake."""
        self.period_ns = period_ns
        self.epoch_ns = now_ns() + period_ns
        self.skipped = 0  # due ticks that the last `wait` passed over
        self._next = 0
        self._spin_ns = spin_ns
        self._now_ns = now_ns
        self._sleep_until = sleep_until

    def wait(self, stopping: Callable[[], bool] = lambda: False) -> Tick | None:
        """Wait for the next due tick. None if `stopping()` came true meanwhile."""
        k = self._next
        t_due = self.epoch_ns + k * self.period_ns
        now = self._now_ns()
        # Periods that it is late, rounded up: a tick that is due this very nanosecond is not past.
        self.skipped = max(0, -((t_due - now) // self.period_ns))
        k += self.skipped
        t_due += self.skipped * self.period_ns
        while now < t_due:
            if stopping():
                return None
            if now < t_due - self._spin_ns:
                self._sleep_until(t_due - self._spin_ns)  # a signal ends it early
            now = self._now_ns()
        self._next = k + 1
        return Tick(k, t_due, now)
