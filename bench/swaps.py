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

    Of the used ones, ns: `wait` from publication to the wake of the first tick. It is bounded by
    the sum of `between`, from when the tick before that one was due (one period, or more where
    ticks were skipped), of `woke_late`, that tick's wake error, and of `publishing`.
    """

    published: int
    wait: NDArray[np.int64]
    between: NDArray[np.int64]
    woke_late: NDArray[np.int64]
    publishing: NDArray[np.int64]
    superseded: int
    late: int
    lost: int
    again: int  # ticks that used an older chunk than the tick before

    @property
    def spare(self) -> NDArray[np.int64]:
        """How far each wait stayed within its bound, ns."""
        return self.between + self.woke_late + self.publishing - self.wait

    def figures(self, period_ns: int) -> dict[str, Any]:
        """For the page: times in ms, and a histogram of the wait over one period. A chunk that a
        tick found which was awake already waited less than nothing; it is in the first bin."""
        share = np.clip(self.wait / period_ns, 0, None)
        counts, _ = np.histogram(share, bins=np.append(np.arange(BINS) / BINS, np.inf))
        wait_ms, longest = self.wait / 1e6, int(self.wait.argmax())
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
            "longest": {
                "skipped": int(self.between[longest]) // period_ns - 1,
                "woke_late_ms": float(self.woke_late[longest] / 1e6),
                "publishing_ms": float(self.publishing[longest] / 1e6),
            },
            "histogram": counts,
        }


def find_swaps(
    ticks: NDArray[Any],
    index: NDArray[np.int64],
    t_publish: NDArray[np.int64],
    t_committed: NDArray[np.int64],
) -> Swaps:
    """ticks: (N,) records of executing ticks, oldest first. index: (n,) ring indices of the chunks
    to judge, ascending; t_publish, t_committed: (n,) ns, before and after each one's publication.
    """
    chunk, t_wake, t_due = ticks["chunk"], ticks["t_wake"], ticks["t_due"]
    first = np.searchsorted(chunk, index)  # the first tick that used it or a newer one
    soonest = np.searchsorted(t_wake, t_committed)  # the first that woke and could see it
    used = chunk[np.minimum(first, len(chunk) - 1)] == index
    at = first[used]
    late = first > soonest
    return Swaps(
        published=len(index),
        wait=t_wake[at] - t_publish[used],
        between=t_due[at] - t_due[at - 1],
        woke_late=t_wake[at] - t_due[at],
        publishing=(t_committed - t_publish)[used],
        superseded=int(np.count_nonzero(~used & ~late)),
        late=int(np.count_nonzero(late)),
        lost=int(np.count_nonzero(~used & late)),
        again=int(np.count_nonzero(np.diff(chunk) < 0)),
    )
