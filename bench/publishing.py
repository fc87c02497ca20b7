"""Chunks from outside for a real control process: stands in for inference and for the robot."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from feed import Feed
from numpy.typing import NDArray

from rt import clock
from rt.config import Config
from rt.cores import divide
from rt.records import Phase, text
from rt.session import Session
from rt.statistics import TickStatistics

PATIENCE_S = 30.0


class Stand:
    """Feeds control, and sees what it does."""

    def __init__(self, config: Config, session: Session) -> None:
        self._feed = Feed(config, session)
        self._newest = session.reader("tick")
        self.tick = self._newest.buffer()
        self.statistics = TickStatistics(session.reader("tick"))
        self.used: set[int] = set()  # chunks that some tick so far executed
        self._ticks: list[Any] = []

    def measure(self) -> None:
        """The robot is where it was, now."""
        self._feed.measure()
        self._newest.read_latest(self.tick)

    def publish(self) -> tuple[int, int, int]:
        """A chunk that began with the newest tick; its index, and the times before and after."""
        self.measure()
        tick, episode = int(self.tick["tick"]), int(self.tick["episode"])
        before = clock.now_ns()
        index = self._feed.infer(tick, episode)
        return index, before, clock.now_ns()

    def drain(self) -> None:
        ticks = self.statistics.update().copy()
        self._ticks.append(ticks)
        self.used.update(ticks["chunk"][ticks["row"] >= 0].tolist())

    def ticks(self) -> Any:
        """All tick records so far."""
        self.drain()
        return np.concatenate(self._ticks)

    def until(self, status: Any, what: str, true: Any) -> None:
        """Measure at 200 Hz until `true(tick)`."""
        deadline, record = time.monotonic() + PATIENCE_S, status.buffer()
        while not true(self.tick):
            status.read_latest(record)
            assert text(record["state"]) != "failed", text(record["detail"])
            assert time.monotonic() < deadline, what
            self.measure()
            self.drain()
            time.sleep(0.005)


@contextmanager
def control(session: Session) -> Iterator[None]:
    """The control process, as the supervisor starts it."""
    command = [
        sys.executable,
        "-m",
        "rt.control.process",
        session.name,
        str(os.getpid()),
        "control",
    ]
    others = os.sched_getaffinity(0)
    with subprocess.Popen(command) as process:
        os.sched_setaffinity(0, divide("last").others)  # its core is its own
        try:
            yield
        finally:
            process.terminate()
            os.sched_setaffinity(0, others)


def play(
    config: Config, session: Session, count: int, mean_gap_s: float
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Publish at random moments until `count` chunks were used, or a few more.

    Returns all tick records from the first that executed, and of each chunk its index and the times
    before and after its publication, (n, 3).
    """
    stand, moments = Stand(config, session), random.Random(0)
    with control(session), session.reader("status.control") as status:
        stand.until(status, "an episode", lambda tick: int(tick["phase"]) == Phase.RUN)
        stand.publish()
        stand.until(status, "a tick that executes", lambda tick: int(tick["row"]) >= 0)
        published: list[tuple[int, int, int]] = []
        while len(stand.used) <= count:
            gap_ns = round(1e9 * moments.expovariate(1 / mean_gap_s))
            clock.sleep_until(clock.now_ns() + gap_ns)
            published.append(stand.publish())
            stand.drain()
        last = published[-1][0]
        stand.until(status, "the last chunk", lambda tick: int(tick["chunk"]) == last)
        ticks = stand.ticks()
    assert stand.statistics.missed == 0
    return ticks[np.argmax(ticks["row"] >= 0) :], np.array(published, np.int64)
