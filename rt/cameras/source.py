"""Where a camera's frames come from: what the sources have in common, and which one it is."""

from __future__ import annotations

import stat
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from rt.config import CameraConfig, Config
from rt.errors import MissingPackageError, RobotError
from rt.shm.buffers import Record


class Source(Protocol):
    """An open camera."""

    words: str  # what it gives, and what was asked of it where that is something else

    def read(self, frame: Record) -> str:
        """Wait for the next frame, about a second at most, and fill `frame` (`frame_dtype`).

        Returns what was wrong, "" when the frame is filled. Raises RobotError when the source is
        gone.
        """

    def close(self) -> None:
        """Let go of it."""


def open_source(config: Config, name: str) -> Source:
    """The camera `name`: the fake robot's view where a fake robot answers, else what
    `robot.yaml: cameras` names. A path is looked up anew each time, since a device that is
    plugged in again may get another number.

    Raises RobotError saying why it cannot be opened, MissingPackageError without OpenCV.
    """
    if find_spec("cv2") is None:
        raise MissingPackageError(
            "cameras need opencv-python-headless: in the project's folder, pip install -e '.[sim]'"
        )
    # Imported only now that OpenCV is known to be there.
    if config.run.fake:
        from rt.cameras.fake_view import FakeView

        return FakeView(config, name)
    camera = config.robot.cameras[name]
    if _is_device(camera):
        from rt.cameras.device import Device

        return Device(camera)
    from rt.cameras.video_file import VideoFile

    return VideoFile(camera)


def _is_device(camera: CameraConfig) -> bool:
    try:
        return stat.S_ISCHR(Path(camera.source).stat().st_mode)
    except OSError:
        raise RobotError(
            f"nothing is at {camera.source}: plug the camera in, or name another source "
            "(ls -l /dev/v4l/by-id shows what is plugged in)"
        ) from None
