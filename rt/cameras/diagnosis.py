"""Why a device cannot be opened as a camera: OpenCV says only that it cannot."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path

from rt.errors import RobotError

# linux/videodev2.h: _IOR('V', 0, struct v4l2_capability), of 104 bytes.
VIDIOC_QUERYCAP = 0x80685600
CAPABILITY = struct.Struct("16s32s32s6I")  # driver, card, bus; version, capabilities, device_caps
VIDEO_CAPTURE = 0x1 | 0x1000  # on one plane, on several
HAS_DEVICE_CAPS = 0x80000000
CAUSES = {
    errno.ENOENT: "is absent: plug the camera in (ls -l /dev/v4l/by-id shows what is plugged in)",
    errno.EACCES: "is not yours to use: sudo usermod -aG video $USER, then log in again",
    errno.EBUSY: "is busy: another program uses it",
    errno.ENODEV: "is unplugged",
    errno.ENXIO: "is unplugged",
}


def check_device(path: str) -> None:
    """Raises RobotError unless `path` is a V4L2 device that captures video and may be opened."""
    try:
        device = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        cause = CAUSES.get(error.errno or 0, f"cannot be opened: {error.strerror}")
        raise RobotError(f"{path} {cause}{_by_whom(path, error.errno)}") from None
    try:
        answer = fcntl.ioctl(device, VIDIOC_QUERYCAP, bytes(CAPABILITY.size))
    except OSError:
        raise RobotError(f"{path} is no camera: it does not speak V4L2") from None
    finally:
        os.close(device)
    _, _, _, _, of_all_nodes, of_this_node, *_ = CAPABILITY.unpack(answer)
    captures = of_this_node if of_all_nodes & HAS_DEVICE_CAPS else of_all_nodes
    if not captures & VIDEO_CAPTURE:
        raise RobotError(
            f"{path} gives no pictures: it is another node of its camera, e.g. that of its "
            "metadata: take the one that ends in video-index0 in /dev/v4l/by-id"
        )


def why_refused(path: str) -> str:
    """Of a camera that could be opened, and then did not stream."""
    return f"{path} refuses to stream, as a camera in use does{_by_whom(path, errno.EBUSY)}"


def _by_whom(path: str, error: int | None) -> str:
    users = processes_using(path) if error == errno.EBUSY else []
    return f" ({', '.join(users)})" if users else ""


def processes_using(path: str) -> list[str]:
    """The processes that have `path` open, as "name, pid 123"; of other users' none are seen."""
    target = Path(path).resolve()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        if int(folder.name) == os.getpid():
            continue
        try:
            if any(fd.readlink() == target for fd in (folder / "fd").iterdir()):
                found.append(f"{(folder / 'comm').read_text().strip()}, pid {folder.name}")
        except OSError:  # it ended, or is another user's
            continue
    return found
