"""Cameras through OpenCV's own V4L2 code, as installed, in front of a stand-in for the driver
(tests/v4l2_stand_in.c): no machine without a camera can run a real one."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from camera_files import CameraSession, camera_config, picture
from launched import ROOT, until

from rt import clock

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("v4l2") / "stand_in.so"
    source = ROOT / "tests" / "v4l2_stand_in.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-Wall", "-o", made, source, "-ldl"], check=True)
    return made


class Plugged(CameraSession):
    """A session whose camera, 800x600 MJPG at 25 fps, hangs on the stand-in."""

    def __init__(self, library: Path, folder: Path, **environment: str) -> None:
        self.device = folder / "video0"
        self.stall = folder / "stall"
        cv2.imwrite(str(folder / "picture.jpg"), picture(800, 600))
        self._environment = {
            "LD_PRELOAD": str(library),
            "STAND_IN": str(self.device),
            "STAND_IN_JPEG": str(folder / "picture.jpg"),
            "STAND_IN_STALL": str(self.stall),
        } | environment
        self.plug()
        camera = camera_config(self.device, width=800, height=600, fps=25)
        # With a history of images the ring keeps a few seconds of frames.
        super().__init__(camera, state_timeout_s=0.2, num_img_obs=40)

    def plug(self) -> None:
        self.device.symlink_to("/dev/null")  # a character device, as a camera is

    def run(self) -> subprocess.Popen[bytes]:
        variables = (f"{name}={value}" for name, value in self._environment.items())
        return self.start("env", *variables)

    @property
    def t_newest(self) -> int:
        """When the newest frame was captured."""
        assert self.frames.read_latest(self.frame) is not None
        return int(self.frame["t_capture"])

    def refusal(self) -> str:
        """With what its process ends."""
        assert self.run().wait(30) == 2
        return self.status[1]


@pytest.fixture
def plugged(library: Path, tmp_path: Path) -> Iterator[Callable[..., Plugged]]:
    made: list[Plugged] = []

    def make(**environment: str) -> Plugged:
        made.append(Plugged(library, tmp_path, **environment))
        return made[-1]

    yield make
    for one in made:
        one.__exit__()


def test_what_was_asked_is_granted_and_its_frames_are_dated_by_the_driver(
    plugged: Callable[..., Plugged],
) -> None:
    s = plugged()
    process = s.run()
    assert s.until("running") == "MJPG 800x600 at 25 fps"
    image = s.next_frame()["image"]
    assert image[0, 0, 0] > 240  # red, upright
    assert image[0, -1, -1] < 15
    process.send_signal(signal.SIGSTOP)
    stopped, head = clock.now_ns(), s.frames.head
    until("some frames' time", lambda: clock.now_ns() > stopped + 200_000_000)
    continued = clock.now_ns()
    process.send_signal(signal.SIGCONT)
    until("the next frames", lambda: s.frames.head >= head + 4)
    frames = np.zeros(min(s.frames.head, s.frames.slots - 8), s.frames.dtype)
    assert s.frames.read_window(frames, len(frames)) is not None
    times = frames["t_capture"]
    # The frame that waited in its buffer meanwhile is known for an old one.
    assert ((stopped < times) & (times < continued - 50_000_000)).any()


def test_what_was_not_granted_is_told(plugged: Callable[..., Plugged]) -> None:
    s = plugged(STAND_IN_GRANTS="MJPG 320 240 15")
    s.run()
    told = "asked for MJPG 800x600 at 25 fps, got MJPG 320x240 at 15 fps"
    # The picture itself is still of 800x600, whatever the driver says: what counts is its shape.
    assert s.until("running") == told


def test_frames_of_another_shape_are_refused(
    plugged: Callable[..., Plugged], tmp_path: Path
) -> None:
    s = plugged()
    cv2.imwrite(str(tmp_path / "picture.jpg"), picture(800, 450))
    assert "gives frames of 800x450, expected the shape of 800x600" in s.refusal()


def test_a_device_that_is_unplugged_is_found_again(plugged: Callable[..., Plugged]) -> None:
    s = plugged()
    process = s.run()
    s.until("running")
    s.device.unlink()
    assert s.until("lost")
    until("a second look", lambda: "nothing is at" in s.status[1])
    s.plug()
    s.until("running")
    s.next_frame()
    assert process.poll() is None


def test_a_device_that_stalls_is_told_and_opened_again(plugged: Callable[..., Plugged]) -> None:
    s = plugged()
    s.run()
    s.until("running")
    s.stall.touch()
    until("a beat in between", lambda: s.heartbeat > s.t_newest + 900_000_000)
    assert s.status[0] == "running"
    assert s.until("lost") == f"{s.device} gives no frame"
    s.stall.unlink()
    s.until("running")


def test_a_device_that_another_program_streams_from_is_busy(
    plugged: Callable[..., Plugged],
) -> None:
    said = plugged(STAND_IN_BUSY="1").refusal()
    assert "refuses to stream, as a camera in use does" in said


def test_a_camera_s_node_without_pictures_is_named(plugged: Callable[..., Plugged]) -> None:
    said = plugged(STAND_IN_NODE="metadata").refusal()
    assert "gives no pictures: it is another node of its camera" in said
