"""The picture that an OpenCV capture has grabbed, into a frame."""

from __future__ import annotations

import cv2

from rt.cameras.image import prepare
from rt.config import CameraConfig
from rt.shm.buffers import Record


def decode(capture: cv2.VideoCapture, camera: CameraConfig, stamp_ns: int, frame: Record) -> str:
    """Fill `frame` with the picture stamped at `stamp_ns`. Returns what was wrong, "" if nothing.

    Another size than was asked for is taken, since it is resized anyway; another shape is not: the
    policy would see a distorted world.
    """
    came, picture = capture.retrieve()
    if not came or picture is None or not picture.size:
        return f"{camera.source} gives a frame that cannot be decoded"
    if picture.shape[2:] != (3,):
        return f"{camera.source} gives frames without colours: correct fourcc, or the source"
    height, width = picture.shape[:2]
    if width * camera.height != height * camera.width:
        return (
            f"{camera.source} gives frames of {width}x{height}, expected the shape of "
            f"{camera.width}x{camera.height}: correct width and height, or the source"
        )
    frame["t_capture"] = stamp_ns - round(camera.latency_ms * 1e6)
    rgb = camera.colour == "rgb"  # OpenCV's own order is the other
    prepare(picture, frame["image"], rotate_deg=camera.rotate_deg, swap_colours=rgb)
    return ""
