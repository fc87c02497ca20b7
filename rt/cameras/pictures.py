"""The newest frames as files to look at: swapped cameras, a wrong turn, swapped colours."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from rt import clock
from rt.errors import MissingPackageError, SessionError
from rt.session import Session, ring_table


def save_frames(session: Session, folder: Path) -> list[str]:
    """Write each camera's newest frame to `folder`/<camera>.png, and say so, one line a camera.

    It is the image that the policy gets, its first channel shown as red.
    Raises MissingPackageError without OpenCV, SessionError if it cannot be written there.
    """
    if find_spec("cv2") is None:
        raise MissingPackageError(
            "pictures need opencv-python-headless: in the project's folder, pip install -e '.[sim]'"
        )
    import cv2  # only now that it is known to be there

    lines = []
    config = session.config()
    for camera in config.params.camera_names:
        name = f"frame.{camera}"
        with session.reader(name, ring_table(config)[name][0]) as ring:
            frame = ring.buffer()
            if ring.read_latest(frame) is None:
                lines.append(f"{camera}: no frame yet")
                continue
        age_ms = (clock.now_ns() - int(frame["t_capture"])) / 1e6
        bgr = np.ascontiguousarray(frame["image"][::-1].transpose(1, 2, 0))  # OpenCV's order
        path = folder / f"{camera}.png"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(cv2.imencode(".png", bgr)[1].tobytes())
        except OSError as error:
            raise SessionError(
                f"--frames {folder}: expected a folder to write to, got: {error}: name another"
            ) from None
        lines.append(f"{camera}: {path}, captured {age_ms:.0f} ms ago")
    return lines or ["no cameras: camera_names of the runtime parameters is empty"]
