"""How late the loop wakes beside three cameras, and what they cost: 640x480 MJPG at 30 fps.

Their processes run all the while, and are stopped (SIGSTOP) for every other round.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from budgets import judge
from feed import session_for
from proof import keep, report
from ratio import told
from waking import our_loop

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
    """Three cameras' processes, off the control core."""

    def __init__(self, session: Session, others: tuple[int, ...]) -> None:
        self._frames = {name: session.reader(f"frame.{name}") for name in CAMERAS}
        self._statuses = [session.reader(f"status.{camera_child(name)}") for name in CAMERAS]
        self.shares: list[float] = []  # of one core, of one process, while they ran
        self.rates: list[float] = []  # frames a second, of one camera
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

    def beside(self, session: str, core: int, seconds: float) -> float:
        """The loop's p99 wake error while they run, us."""
        began, (cpu, frames) = time.monotonic(), self.counts()
        p99 = wake_p99_us(session, core, seconds)
        took, (cpu_after, frames_after) = time.monotonic() - began, self.counts()
        self.shares += [(b - a) / took for a, b in zip(cpu, cpu_after, strict=True)]
        self.rates += [(b - a) / took for a, b in zip(frames, frames_after, strict=True)]
        return p99

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


def wake_p99_us(session: str, core: int, seconds: float) -> float:
    """The loop's p99 wake error."""
    return float(np.percentile(our_loop(session, core, seconds=seconds).wake_ns, 99)) / 1e3


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    source = str(film(tmp_path_factory.mktemp("film") / "scene.avi"))
    camera = CameraConfig(source=source, width=WIDTH, height=HEIGHT, fps=FPS, rotate_deg=180)
    settings = ["--set", "ticks_per_row=50", "--set", "episode_ticks=0"]  # 1 kHz
    config = load_config(parse(["--robot", "igris_b", *settings])).config
    robot = msgspec.structs.replace(config.robot, cameras=dict.fromkeys(CAMERAS, camera))
    config = msgspec.structs.replace(config, robot=robot)
    statuses = {f"status.{camera_child(name)}": (STATUS, 4) for name in CAMERAS}
    with session_for("cameras", config, **statuses) as session:
        yield session


@pytest.fixture(scope="module")
def filming(session: Session, core: int) -> Iterator[Filming]:
    started = Filming(session, divide("last").others)
    try:
        started.wait()
        yield started
    finally:
        started.end()


def test_wake_error_beside_three_cameras(  # type: ignore[no-untyped-def]
    session: Session, filming: Filming, core: int, benchmark, long: bool
) -> None:
    count, seconds = (9, 3.0) if long else (3, 1.5)
    pairs = []

    def one_pair() -> None:
        filming.signal(signal.SIGCONT)
        beside = filming.beside(session.name, core, seconds)
        filming.signal(signal.SIGSTOP)
        pairs.append((beside, wake_p99_us(session.name, core, seconds)))

    benchmark.pedantic(one_pair, rounds=count)
    ratios = [beside / alone for beside, alone in pairs]
    beside, alone = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
    share, rate = statistics.median(filming.shares), statistics.median(filming.rates)
    keep(
        "real_robot",
        cameras={
            "what": f"{WIDTH}×{HEIGHT} MJPG at {FPS} fps",
            "beside_us": beside,
            "alone_us": alone,
            "ratios": ratios,
            "share": share,
            "rate": rate,
        },
    )
    report(
        f"wake error at 1 kHz beside three {WIDTH}x{HEIGHT} MJPG cameras at {FPS} fps",
        f"p99 {beside:.0f} us; without them {alone:.0f} us; ratio {told(ratios)}, {count} "
        "alternated pairs",
    )
    report("a camera's process", f"{100 * share:.1f} % of a core, {rate:.1f} frames a second")
    assert rate >= 0.95 * FPS, f"{rate:.1f} frames a second of {FPS}: is the machine busy?"
    judge("wake.cameras.p99", ratios)
