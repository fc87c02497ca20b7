"""The newest frame of each camera, as a JPEG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2

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

    def new(self, *, seen_too: bool = False) -> Iterator[bytes]:
        """Of each camera that has a new frame: the camera's number in one byte, then the JPEG.
        seen_too: of each that has a frame at all, for whoever has just come."""
        for number, (ring, frame) in enumerate(zip(self._rings, self._frames, strict=True)):
            if ring.head == 0 or (ring.head - 1 == self._seen[number] and not seen_too):
                continue
            index = ring.read_latest(frame)
            if index is None:
                continue
            self._seen[number] = index
            red, green, blue = frame["image"]
            bgr = cv2.merge([blue, green, red])  # OpenCV's order
            jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
            yield bytes([number]) + jpeg.tobytes()

    def close(self) -> None:
        for ring in self._rings:
            ring.close()
