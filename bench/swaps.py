"""Whether every chunk was used as soon as it could be, told from the tick records alone."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

BINS = 20


class Swaps(NamedTuple):
    """Of n chunks; nothing is dropped.

    superseded: a newer one was there before any tick could have used it. late: a tick that woke
    after it was published used an older one. lost: late, and never used.
    """

    published: int
    wait_ns: NDArray[np.int64]  # of those used: publication to the wake of their first tick
    beyond_ns: NDArray[np.int64]  # of which beyond the bound: see `swaps`
    skipped: NDArray[np.bool_]  # whether control had skipped ticks just before its first one
    superseded: int
    late: int
    lost: int
    again: int  # ticks that used an older chunk than the tick before

    def figures(self, period_ns: int) -> dict[str, Any]:
        """For the page: times in ms, and a histogram of the wait over one period. A chunk that a
        tick found which was awake already waited less than nothing; it is in the first bin."""
        share = np.clip(self.wait_ns / period_ns, 0, None)
        counts, _ = np.histogram(share, bins=np.append(np.arange(BINS) / BINS, np.inf))
        wait_ms = self.wait_ns / 1e6
        return {
            "period_ms": period_ns / 1e6,
            "published": self.published,
            "used": len(wait_ms),
            "superseded": self.superseded,
            "late": self.late,
            "lost": self.lost,
            "p50_ms": float(np.median(wait_ms)),
            "p99_ms": float(np.percentile(wait_ms, 99)),
            "max_ms": float(wait_ms.max()),
            "skipped": int(np.count_nonzero(self.skipped)),
            "max_unskipped_ms": float(wait_ms[~self.skipped].max()),
            "histogram": counts,
        }


def swaps(
    ticks: NDArray[Any],
    period_ns: int,
    index: NDArray[np.int64],
    t_publish: NDArray[np.int64],
    t_committed: NDArray[np.int64],
) -> Swaps:
    """ticks: (N,) records of executing ticks, oldest first. index: (n,) ring indices of the chunks
    to judge, ascending; t_publish, t_committed: (n,) ns, before and after each one's publication.

    A chunk's wait is bounded by what lies between the due time of the tick before its first one,
    which could not use it yet, and the wake of its first one: one period and that tick's wake
    error, but for skipped ticks; and by what its publication itself took.
    """
    chunk, t_wake = ticks["chunk"], ticks["t_wake"]
    first = np.searchsorted(chunk, index)  # the first tick that used it or a newer one
    soonest = np.searchsorted(t_wake, t_committed)  # the first that woke and could see it
    used = chunk[np.minimum(first, len(chunk) - 1)] == index
    at = first[used]
    late = first > soonest
    wait = t_wake[at] - t_publish[used]
    t_due = ticks["t_due"]
    allowed = t_wake[at] - t_due[at - 1] + (t_committed - t_publish)[used]
    return Swaps(
        published=len(index),
        wait_ns=wait,
        beyond_ns=wait - allowed,
        skipped=t_due[at] - t_due[at - 1] > period_ns,
        superseded=int(np.count_nonzero(~used & ~late)),
        late=int(np.count_nonzero(late)),
        lost=int(np.count_nonzero(~used & late)),
        again=int(np.count_nonzero(np.diff(chunk) < 0)),
    )
