"""Videos as a camera would film them, and a camera's process under test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from launched import unique_session, until
from numpy.typing import NDArray

from rt.config import CameraConfig, Config
from rt.records import STATUS, camera_child, text
from rt.session import Session, ring_table
from rt.testing import config

WIDTH, HEIGHT = 64, 48
RED = (0, 0, 255)  # as OpenCV orders it
CAMERA = "head"


def noise(seed: int = 0) -> NDArray[np.uint8]:
    """A picture that does not compress."""
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def picture(width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """Green, with a red quarter at the top left."""
    made = np.zeros((height, width, 3), np.uint8)
    made[:, :, 1] = 160
    made[: height // 2, : width // 2] = RED
    return made


def film(path: Path, pictures: Sequence[NDArray[np.uint8]] = (), frames: int = 8) -> Path:
    """An MJPG video of `pictures`, or of so many of `picture()`."""
    shown = pictures or [picture()] * frames
    height, width = shown[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30, (width, height))
    assert writer.isOpened()
    for one in shown:
        writer.write(one)
    writer.release()
    return path


def camera_config(source: Path | str, **changes: Any) -> CameraConfig:
    values = {"source": str(source), "width": WIDTH, "height": HEIGHT, "fps": 100} | changes
    return CameraConfig(**values)


class CameraSession:
    """A session with one camera, head, and no processes yet. Use as a context manager."""

    def __init__(self, camera: CameraConfig | None, **overrides: Any) -> None:
        cameras = {} if camera is None else {CAMERA: camera}
        named = {"camera_names": (CAMERA,), "cameras": cameras, "io": "dds"} | overrides
        self.config: Config = config(session=unique_session("camera"), **named)
        self.session = Session(self.config.run.session)
        names = [camera_child(name) for name in self.config.params.camera_names]
        statuses = {f"status.{name}": (STATUS, 4) for name in (*names, "inference")}
        self.session.create(ring_table(self.config) | statuses)
        self.session.publish_config(self.config)
        self.frames = self.session.reader(f"frame.{CAMERA}")
        self.frame = self.frames.buffer()
        self._status = self.session.reader(f"status.{camera_child(CAMERA)}")
        self._record = self._status.buffer()
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, *prefix: str, camera: str = CAMERA) -> subprocess.Popen[bytes]:
        """The camera's process; `prefix` is a command to run it by."""
        module = ("-m", "rt.cameras.process", self.session.name, str(os.getpid()))
        self._processes.append(
            subprocess.Popen([*prefix, sys.executable, *module, camera_child(camera)])
        )
        return self._processes[-1]

    @property
    def status(self) -> tuple[str, str]:
        """State and detail."""
        if self._status.read_latest(self._record) is None:
            return "", ""
        return text(self._record["state"]), text(self._record["detail"])

    @property
    def heartbeat(self) -> int:
        self._status.read_latest(self._record)
        return int(self._record["heartbeat"])

    def until(self, state: str) -> str:
        """Wait for the state. Returns the detail."""

        def look() -> bool:
            assert self._processes[-1].poll() is None, self.status
            return self.status[0] == state

        until(f"a camera that is {state}", look)
        return self.status[1]

    def next_frame(self) -> Any:
        """The first frame that is published from now on."""
        head = self.frames.head
        until("a frame", lambda: self.frames.head > head)
        assert self.frames.read_latest(self.frame) is not None
        return self.frame

    def __enter__(self) -> CameraSession:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self.frames.close()
        self._status.close()
        self.session.clean()


MakeSession = Callable[..., CameraSession]


@pytest.fixture(name="session")
def camera_sessions() -> Iterator[MakeSession]:
    """`session(camera, ...)`: a CameraSession, ended after the test."""
    made: list[CameraSession] = []

    def make(*args: Any, **overrides: Any) -> CameraSession:
        made.append(CameraSession(*args, **overrides))
        return made[-1]

    yield make
    for one in made:
        one.__exit__()
