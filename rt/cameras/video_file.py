"""A video file played as a camera: in real time, over and over."""

from __future__ import annotations

import os

# Read by OpenCV when it is first used. What is wrong is told in the status.
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2

from rt import clock
from rt.cameras.decoding import decode
from rt.clock import Ticks
from rt.config import CameraConfig
from rt.errors import RobotError
from rt.shm.buffers import Record

ONE_THREAD = (cv2.CAP_PROP_N_THREADS, 1)


class VideoFile:
    """`rt.cameras.source.Source`. Its frames are captured when they are due, every 1 / fps."""

    def __init__(self, camera: CameraConfig) -> None:
        """Open it. Raises RobotError if it is no video."""
        self._camera = camera
        self._capture = self._opened()
        self._ticks = Ticks(clock.now_ns(), round(1e9 / camera.fps))
        width, height = (
            int(self._capture.get(key))
            for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        self.words = f"video file {width}x{height} at {camera.fps:g} fps"

    def _opened(self) -> cv2.VideoCapture:
        source = self._camera.source
        capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, ONE_THREAD)
        if capture.isOpened():
            return capture
        if not os.access(source, os.R_OK):
            raise RobotError(f"{source} cannot be read: it is gone, or yours to read no more")
        raise RobotError(f"{source} is no video that OpenCV can read")

    def read(self, frame: Record) -> str:
        due = self._ticks.due(self._ticks.next_after(clock.now_ns()))
        clock.sleep_until(due)
        if not self._capture.grab():
            # Its end. Opened anew, not wound back: it may have been replaced meanwhile.
            self._capture = self._opened()
            if not self._capture.grab():
                return f"{self._camera.source} holds no frame that can be read"
        return decode(self._capture, self._camera, due, frame)

    def close(self) -> None:
        self._capture.release()
