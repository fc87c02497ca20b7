"""A V4L2 camera, through OpenCV.

Read in OpenCV's cap_v4l.cpp, since none of it is documented:
- The pixel format comes first: size and rate are negotiated for the format in force. Each of these
  settings may be refused in silence, so all are read back.
- A frame is the driver's from VIDIOC_QBUF to VIDIOC_DQBUF. `grab` dequeues, `retrieve` decodes and
  queues the buffer again. With one buffer the camera has nowhere to put what it films while the
  last frame is decoded; with more than two, frames grow old in the queue where decoding is slow.
- `grab` waits OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT seconds, by default 10, for a camera that stalls;
  of one that is unplugged it fails at once (ENODEV).
- After a failed `grab`, `retrieve` reads a buffer that is not there.
- POS_MSEC is the driver's stamp of the frame: CLOCK_MONOTONIC for all in-tree drivers of today.
"""

from __future__ import annotations

import os

# Both are read by OpenCV when it is first used.
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "1")
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")  # what is wrong is told in the status

import cv2

from rt import clock
from rt.cameras.decoding import decode
from rt.cameras.diagnosis import check_device, why_refused
from rt.config import CameraConfig
from rt.errors import RobotError
from rt.shm.buffers import Record

BUFFERS = 2
# A driver's stamp so old is not of our clock. A frame that waited while this process was stopped
# is younger, and has to be known for the old frame that it is.
OLDEST_NS = 600_000_000_000


class Device:
    """`rt.cameras.source.Source`."""

    def __init__(self, camera: CameraConfig) -> None:
        """Open it as configured. Raises RobotError saying why that fails."""
        check_device(camera.source)
        self._camera = camera
        self._capture = cv2.VideoCapture(camera.source, cv2.CAP_V4L2)
        if not self._capture.isOpened():
            raise RobotError(why_refused(camera.source))
        for key, value in (
            (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*camera.fourcc)),
            (cv2.CAP_PROP_FRAME_WIDTH, camera.width),
            (cv2.CAP_PROP_FRAME_HEIGHT, camera.height),
            (cv2.CAP_PROP_FPS, camera.fps),
            (cv2.CAP_PROP_BUFFERSIZE, BUFFERS),
        ):
            self._capture.set(key, value)
        if not self._capture.isOpened():  # each setting starts it anew, which can fail
            raise RobotError(why_refused(camera.source))
        self.words = told(camera, *self._granted())

    def _granted(self) -> tuple[str, int, int, float]:
        get = self._capture.get
        fourcc = int(get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode("ascii", "replace")
        size = int(get(cv2.CAP_PROP_FRAME_WIDTH)), int(get(cv2.CAP_PROP_FRAME_HEIGHT))
        return fourcc, *size, get(cv2.CAP_PROP_FPS)

    def read(self, frame: Record) -> str:
        if not self._capture.grab():
            return f"{self._camera.source} gives no frame"
        stamp = stamp_ns(self._capture.get(cv2.CAP_PROP_POS_MSEC), clock.now_ns())
        return decode(self._capture, self._camera, stamp, frame)

    def close(self) -> None:
        self._capture.release()


def stamp_ns(driver_ms: float, now_ns: int) -> int:
    """When the frame was stamped, ns CLOCK_MONOTONIC: by the driver; `now_ns`, just after it was
    dequeued, if the driver's clock is another."""
    driver_ns = round(driver_ms * 1e6)
    if driver_ns == 0:  # it does not stamp
        return now_ns
    return driver_ns if 0 <= now_ns - driver_ns < OLDEST_NS else now_ns


def told(camera: CameraConfig, fourcc: str, width: int, height: int, fps: float) -> str:
    """What was granted, beside what was asked where the two differ."""
    asked = f"{camera.fourcc} {camera.width}x{camera.height} at {camera.fps:g} fps"
    granted = f"{fourcc} {width}x{height} at {fps:g} fps"
    return granted if granted == asked else f"asked for {asked}, got {granted}"
