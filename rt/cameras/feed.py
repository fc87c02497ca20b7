"""One camera's way into its ring, whatever becomes of the camera.

Guarantees:
  - A frame is published whole, once, and stamped before it is decoded. The last one is never
    repeated: without a new one the ring grows old, and its readers can tell.
  - A source that fails is closed and opened again, with growing pauses, without end. Only a camera
    that has given no frame in this session, for so long as `first_frame_s`, ends the process.
Assumption:
  - A read returns within about a second; meanwhile the status does not beat.
"""

from __future__ import annotations

from collections.abc import Callable

from rt import clock
from rt.cameras.source import Source
from rt.child import Status
from rt.errors import RobotError
from rt.shm import Ring

FAILED_READS = 10  # in a row, after which it is opened again
STALLED_NS = 2_000_000_000  # or so long without a frame
FIRST_PAUSE_NS, LONGEST_PAUSE_NS = 100_000_000, 2_000_000_000  # before it is opened again
BLACK = 8  # of 255: no pixel is brighter


class Feed:
    """Moves frames from a source into the ring `frame.<camera>`."""

    def __init__(
        self, open_source: Callable[[], Source], ring: Ring, status: Status, first_frame_s: float
    ) -> None:
        """open_source: raises RobotError saying why it cannot."""
        self._open_source = open_source
        self._ring = ring
        self._status = status
        self._frame = ring.buffer()
        self._source: Source | None = None
        self._failed = 0  # reads in a row
        self._t_frame = 0  # when the last one came, or the source was opened
        self._pause_ns = FIRST_PAUSE_NS
        self._first_frame_s = first_frame_s
        self._deadline = clock.now_ns() + round(first_frame_s * 1e9)

    def step(self) -> None:
        """One frame, or one attempt at it. Raises RobotError when none came in time at the start;
        a camera that was seen before is waited for, by a restarted process too."""
        try:
            if self._source is None:
                self._source = self._open_source()
                self._failed, self._t_frame = 0, clock.now_ns()
            problem = self._source.read(self._frame)
        except RobotError as error:
            self._lose(str(error))
            return
        if not problem:
            self._publish(self._source.words)
            return
        self._failed += 1
        if self._failed < FAILED_READS and clock.now_ns() - self._t_frame < STALLED_NS:
            self._status.beat()
        else:
            self._lose(problem)

    def _publish(self, words: str) -> None:
        self._ring.write(self._frame)
        self._failed, self._t_frame, self._pause_ns = 0, clock.now_ns(), FIRST_PAUSE_NS
        black = " - the picture is black" if self._frame["image"].max() <= BLACK else ""
        self._status.write("running", detail=words + black)

    def _lose(self, why: str) -> None:
        """Tell why, close the source and pause, before it is opened again."""
        if self._source is not None:
            self._source.close()
            self._source = None
        seen_before = self._ring.head > 0
        if not seen_before and clock.now_ns() > self._deadline:
            name = self._status.name.removeprefix("camera.")
            raise RobotError(f"camera {name}: no frame within {self._first_frame_s:g} s: {why}")
        self._status.write("lost" if seen_before else "opening", detail=why)
        clock.sleep_until(clock.now_ns() + self._pause_ns)
        self._pause_ns = min(2 * self._pause_ns, LONGEST_PAUSE_NS)
