"""Who sends to a subscription: their clocks, and how many they are.

A writer whose process was killed stays matched until its lease ends. A robot's driver that is
restarted would so look like two robots for ten seconds; one that was heard and fell silent is
therefore not counted until its lease is over.
"""

from __future__ import annotations

from collections.abc import Sequence

from rt.robots.source_clock import SourceClock

SILENT_NS = 1_000_000_000  # two robots are both heard within this
LEASE_NS = 12_000_000_000  # DDS's default is 10 s; a writer matched for longer is alive
UNSIGNED = 2**64 - 1  # cyclonedds tells a handle once signed and once not


class Senders:
    """The writers of one topic."""

    def __init__(self) -> None:
        self._newest: int | None = None
        self._clock = SourceClock()
        self._heard: dict[int, int] = {}  # writer → when it was heard last, ns

    def heard(self, writer: int, source_ns: int, now_ns: int) -> int:
        """A message came from `writer`. Returns when it was published, ns CLOCK_MONOTONIC."""
        writer &= UNSIGNED
        if writer != self._newest:
            self._newest, self._clock = writer, SourceClock()
        self._heard[writer] = now_ns
        return self._clock.to_monotonic(source_ns, now_ns)

    def count(self, matched: Sequence[int], now_ns: int) -> int:
        """How many of the `matched` writers are there, ghosts left out."""
        matched = [writer & UNSIGNED for writer in matched]
        self._heard = {writer: t for writer, t in self._heard.items() if writer in matched}
        return sum(
            writer == self._newest or not self._is_ghost(writer, now_ns) for writer in matched
        )

    def _is_ghost(self, writer: int, now_ns: int) -> bool:
        heard = self._heard.get(writer)
        return heard is not None and SILENT_NS < now_ns - heard < LEASE_NS
