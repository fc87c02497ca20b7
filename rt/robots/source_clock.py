"""A sender's clock, told in ours: when, on CLOCK_MONOTONIC, a message was published.

The stamp that travels with a message is the sender's wall clock, which may be hours off, run a
little faster or slower than ours, and be set anew at any moment. All that can be known is how old
a message looks: our time at arrival less its stamp. The least of that ever seen belongs to the
message that travelled fastest, and is taken for the difference of the clocks.

Guarantees:
  - A time is never later than now, and messages of one sender keep their order.
  - A clock set forward is followed at once. One set back by a second or more, too; by less, after
    it has been off for a second, so that a late message is not mistaken for a fresh one.

Assumptions:
  - The clocks drift apart by less than MAX_DRIFT. Nobody can see a delay that all messages share:
    times are late by the fastest message's way, and, where messages are only looked at once a
    tick, by up to the sender's period.
"""

from __future__ import annotations

MAX_DRIFT = 200e-6  # quartz differs by up to 100e-6, and a clock being slewed by NTP by more
STEP_NS = 100_000_000  # so far off, for so long, is no delay
STEP_LASTS_NS = 1_000_000_000


class SourceClock:
    """One sender's clock."""

    def __init__(self) -> None:
        self._offset: int | None = None  # ours - theirs
        self._seen = 0  # when the offset was last looked at, ours
        self._source = 0  # the newest stamp, theirs
        self._off_since = 0  # since when every message has looked late, ours; 0: it does not

    def to_monotonic(self, source_ns: int, now_ns: int) -> int:
        """When a message stamped `source_ns`, which is here at `now_ns`, was published."""
        measured = now_ns - source_ns
        if self._offset is None or self._was_set_back(source_ns, measured, now_ns):
            self._offset = measured
            self._off_since = 0
        drifted = self._offset + int((now_ns - self._seen) * MAX_DRIFT)
        self._offset = min(measured, drifted)
        self._seen, self._source = now_ns, source_ns
        return source_ns + self._offset

    def _was_set_back(self, source_ns: int, measured: int, now_ns: int) -> bool:
        assert self._offset is not None
        if source_ns <= self._source - STEP_LASTS_NS:
            return True
        if measured - self._offset < STEP_NS:
            self._off_since = 0
        elif not self._off_since:
            self._off_since = now_ns
        return bool(self._off_since) and now_ns - self._off_since >= STEP_LASTS_NS
