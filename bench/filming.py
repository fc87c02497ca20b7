"""Three cameras that film: processes as launch starts them, 640x480 MJPG at 30 fps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import msgspec
import numpy as np
from feed import session_for

from rt.config import CameraConfig
from rt.config.load import load_config
from rt.cores import divide
from rt.launcher.options import parse
from rt.records import STATUS, camera_child, text
from rt.session import Session

FPS, WIDTH, HEIGHT, FRAMES = 30, 640, 480, 60
CAMERAS = ("head", "left", "right")
PATIENCE_S = 60.0


def film(path: Path) -> Path:
    """A scene with detail and some noise, as a webcam films it: some 60 kB a frame."""
    random = np.random.default_rng(0)
    scene = cv2.GaussianBlur(random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8), (15, 15), 3)
    scene = cv2.convertScaleAbs(scene, alpha=4, beta=-380)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (WIDTH, HEIGHT))
    for i in range(FRAMES):
        noise = random.normal(0, 6, scene.shape)
        shown = np.clip(np.roll(scene, 4 * i, axis=1) + noise, 0, 255).astype(np.uint8)
        writer.write(shown)
    writer.release()
    return path


class Filming:
    """The cameras' processes, off the control core."""

    def __init__(self, session: Session, others: tuple[int, ...]) -> None:
        self.session = session.name
        self._frames = {name: session.reader(f"frame.{name}") for name in CAMERAS}
        self._statuses = [session.reader(f"status.{camera_child(name)}") for name in CAMERAS]
        self._processes = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "rt.cameras.process"),
                    *(session.name, str(os.getpid()), camera_child(name)),
                ],
                preexec_fn=lambda: os.sched_setaffinity(0, others),
            )
            for name in CAMERAS
        ]

    def wait(self) -> None:
        """Until all run."""
        deadline = time.monotonic() + PATIENCE_S
        for status in self._statuses:
            record = status.buffer()
            while status.read_latest(record) is None or text(record["state"]) != "running":
                assert time.monotonic() < deadline, text(record["detail"])
                time.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        for process in self._processes:
            process.send_signal(number)

    def counts(self) -> tuple[list[float], list[int]]:
        """CPU seconds of each process, and frames of each camera, so far."""
        ticks_per_s = os.sysconf("SC_CLK_TCK")
        seconds = []
        for process in self._processes:
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            seconds.append((int(fields[11]) + int(fields[12])) / ticks_per_s)
        return seconds, [ring.head for ring in self._frames.values()]

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


@contextmanager
def filming(folder: Path) -> Iterator[Filming]:
    """From when all of them run, for a session whose control runs at 1 kHz; the film comes into
    `folder`."""
    source = str(film(folder / "scene.avi"))
    camera = CameraConfig(source=source, width=WIDTH, height=HEIGHT, fps=FPS, rotate_deg=180)
    settings = ["--set", "ticks_per_row=50", "--set", "episode_ticks=0"]
    config = load_config(parse(["--robot", "igris_b", *settings])).config
    robot = msgspec.structs.replace(config.robot, cameras=dict.fromkeys(CAMERAS, camera))
    config = msgspec.structs.replace(config, robot=robot)
    statuses = {f"status.{camera_child(name)}": (STATUS, 4) for name in CAMERAS}
    with session_for("cameras", config, **statuses) as session:
        started = Filming(session, divide("last").others)
        try:
            started.wait()
            yield started
        finally:
            started.end()
