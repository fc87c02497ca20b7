"""The newest frame of each camera, as a JPEG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rt.cameras import jpeg
from rt.session import Session
from rt.shm import Ring

QUALITY = 80


class Pictures:
    """Follows the cameras of a session; frames between two looks are passed over."""

    def __init__(self, session: Session, cameras: Sequence[str]) -> None:
        """Raises SegmentMissingError when the session is just ending."""
        self._rings: list[Ring] = [session.reader(f"frame.{camera}") for camera in cameras]
        self._frames = [ring.buffer() for ring in self._rings]
        self._seen = [-1] * len(self._rings)

    def new(self) -> Iterator[bytes]:
        """Of each camera whose newest frame is another than at the last call: the camera's number
        in one byte, then the JPEG."""
        for number, ring in enumerate(self._rings):
            if ring.head - 1 != self._seen[number]:
                self._seen[number] = ring.head - 1
                yield from self._newest(number)

    def newest(self) -> Iterator[bytes]:
        """Of each camera that has a frame, for whoever has just come: as `new`, which does not
        notice."""
        for number in range(len(self._rings)):
            yield from self._newest(number)

    def _newest(self, number: int) -> Iterator[bytes]:
        frame = self._frames[number]
        if self._rings[number].read_latest(frame) is not None:
            yield bytes([number]) + jpeg.encode(frame["image"], QUALITY)

    def close(self) -> None:
        for ring in self._rings:
            ring.close()
