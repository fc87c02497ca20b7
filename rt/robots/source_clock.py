"""A sender's clock, told in ours: when, on CLOCK_MONOTONIC, a message was published.

The stamp that travels with a message is the sender's wall clock, which may be hours off, run a
little faster or slower than ours, and be set anew at any moment. All that can be known is how old
a message looks: our time at arrival less its stamp. The least of that ever seen belongs to the
message that travelled fastest, and is taken for the difference of the clocks.

Guarantees:
  - A time is never later than now, and never before that of the message before.
  - A delay is never taken for a clock that was set: it shows for as long as it lasts, less what
    the clocks might have drifted apart meanwhile.
  - A clock set forward is followed at once. So is one set back, since only then can a stamp be
    before the last. Set back during a silence that is longer than the step, it looks like a delay:
    the messages look too old, never too fresh, until the sender or this process is started anew.

Assumptions:
  - The messages come in the order in which they were sent, as those of one DDS writer do.
  - The clocks drift apart by less than MAX_DRIFT. Nobody can see a delay that all messages share:
    times are late by the fastest message's way, and, where messages are only looked at once a
    tick, by up to the sender's period.
"""

from __future__ import annotations

MAX_DRIFT = 200e-6  # quartz differs by up to 100e-6, and a clock being slewed by NTP by more


class SourceClock:
    """One sender's clock."""

    def __init__(self) -> None:
        self._offset: int | None = None  # ours - theirs
        self._seen = 0  # when the offset was last looked at, ours
        self._source = 0  # the newest stamp, theirs

    def to_monotonic(self, source_ns: int, now_ns: int) -> int:
        """When a message stamped `source_ns`, which is here at `now_ns`, was published."""
        measured = now_ns - source_ns
        if self._offset is None or source_ns < self._source:
            self._offset = measured
        drifted = self._offset + int((now_ns - self._seen) * MAX_DRIFT)
        self._offset = min(measured, drifted)
        self._seen, self._source = now_ns, source_ns
        return source_ns + self._offset
