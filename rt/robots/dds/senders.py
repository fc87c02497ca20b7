"""Who sends to a subscription: their clocks, and how many they are.

A writer whose process was killed stays matched until its lease ends, so a robot's driver that is
restarted would look like two robots for ten seconds. Its dead writer is told from a robot that
lives, and whose messages another's hide, by one thing: it was silent before the other first spoke.

Assumption:
  - Messages are looked for much more often than every RESTART_NS.
"""

from __future__ import annotations

from collections.abc import Sequence

from rt.robots.source_clock import SourceClock

RESTART_NS = 200_000_000  # no driver is back sooner, and none that lives is silent for so long
LEASE_NS = 12_000_000_000  # DDS's default is 10 s; a writer matched for longer is alive
UNSIGNED = 2**64 - 1  # cyclonedds tells a handle once signed and once not


class Senders:
    """The writers of one topic."""

    def __init__(self) -> None:
        self._newest: int | None = None
        self._clock = SourceClock()
        self._heard: dict[int, int] = {}  # writer → when it was heard last, ns
        self._ghosts: set[int] = set()

    def heard(self, writer: int, source_ns: int, now_ns: int) -> int:
        """A message came from `writer`. Returns when it was published, ns CLOCK_MONOTONIC."""
        writer &= UNSIGNED
        if writer != self._newest:
            is_new, last = writer not in self._heard, self._newest
            if is_new and last in self._heard and now_ns - self._heard[last] >= RESTART_NS:
                self._ghosts.add(last)
            self._newest, self._clock = writer, SourceClock()
        self._ghosts.discard(writer)
        self._heard[writer] = now_ns
        return self._clock.to_monotonic(source_ns, now_ns)

    def count(self, matched: Sequence[int], now_ns: int) -> int:
        """How many of the `matched` writers are there, ghosts left out."""
        there = {writer & UNSIGNED for writer in matched}
        self._heard = {writer: t for writer, t in self._heard.items() if writer in there}
        self._ghosts = {
            writer for writer in self._ghosts & there if now_ns - self._heard[writer] < LEASE_NS
        }
        return len(there - self._ghosts)
