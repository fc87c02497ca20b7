"""`rt.inspect --web` as a program, and a session for it to show."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from launched import start_module
from making import late_once, with_silence
from shown_session import Shown

from rt import clock
from rt.config import ImageSize
from rt.testing import SimulatedRun, config
from rt.testing.configs import TWO_ARMS

TOKEN = "a-token-of-some-length"


class View:
    """The program, once it says where it can be seen."""

    def __init__(self, session: str, *flags: str) -> None:
        words = ("--session", session, "--web", "--port=0", *flags)
        self.process = start_module("rt.inspect", *words)
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        found = re.search(r"is shown at (http://\S+)", said)
        assert found is not None, said + self.process.communicate(timeout=60)[1]
        self.url = found[1]

    def end(self) -> tuple[int, str, str]:
        """Its exit code, what it said last, and what it complained of."""
        said, complaints = self.process.communicate(timeout=60)
        return self.process.returncode, said, complaints


@contextmanager
def viewing(session: str, *flags: str) -> Iterator[View]:
    view = View(session, *flags)
    try:
        yield view
    finally:
        view.process.kill()
        view.process.communicate()


def show_frames(shown: Shown, brightness: int = 60) -> None:
    """A new frame of each camera: red grows to the right, green downwards."""
    size = shown.config.params.mono_image_resize
    x, y = np.arange(size.width), np.arange(size.height)[:, None]
    for number, camera in enumerate(shown.config.params.camera_names):
        image = np.zeros((3, size.height, size.width), np.uint8)
        image[0] = 255 * x // size.width
        image[1] = 255 * y // size.height
        image[2] = brightness + 40 * number
        shown.publish(f"frame.{camera}", t_capture=clock.now_ns(), image=image)


@contextmanager
def a_session(ticks: int = 120, **options: Any) -> Iterator[Shown]:
    """24 joints, two cameras, real-time chunking, a late chunk and a silent robot. It lives by its
    lock alone."""
    made = {
        "camera_names": ("head", "wrist"),
        "mono_image_resize": ImageSize(width=160, height=120),
        "action_chunk_size": 16,
        "min_num_actions_executed": 5,
        "algorithm": "rtc",
        "max_age_ms": 60_000,
    }
    settings = config(options.pop("joint_groups", TWO_ARMS), **made | options)
    with SimulatedRun(settings, delay=late_once) as run, Shown(settings) as shown:
        shown.play(with_silence(run, ticks, at=ticks // 2))
        show_frames(shown)
        yield shown
