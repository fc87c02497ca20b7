"""A launch from Python, and all that it publishes: for benchmarks, pictures, experiments."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rt.errors import SessionError, ShmError
from rt.session import Session
from rt.statistics import TickStatistics
from rt.tail import Tail

PATIENCE_S = 90.0


class Followed:
    """Every tick record and every chunk of a running session, from when control executes."""

    def __init__(self, session: Session) -> None:
        self.statistics = TickStatistics(session.reader("tick"))
        self._chunks = Tail(session.reader("chunk"))
        self._ticks: list[NDArray[Any]] = []
        self.published: dict[int, NDArray[Any]] = {}

    def follow(self, seconds: float) -> NDArray[Any]:
        """Follow for so long; returns all tick records so far."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._ticks.append(self.statistics.update().copy())
            # Also those that were published before we came, or while we slept.
            self.published |= self._chunks.by_index()
            time.sleep(0.01)
        return np.concatenate(self._ticks)


@contextmanager
def launched(*arguments: str, robot: str = "igris_b") -> Iterator[Followed]:
    """Run `python -m rt.launch …`; enters once a chunk has been published, and ends it on leaving.

    Raises SessionError when it ends before, or does not get there.
    """
    session = Session(f"follow-{os.getpid()}")
    command = [sys.executable, "-m", "rt.launch", "--robot", robot, "--session", session.name]
    process = subprocess.Popen([*command, *arguments], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not _has_chunk(session):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SessionError(f"no chunk within {PATIENCE_S:g} s of: {' '.join(command)}")
            time.sleep(0.1)
        yield Followed(session)
    finally:
        process.terminate()
        process.wait()


def _has_chunk(session: Session) -> bool:
    try:
        with session.reader("chunk") as chunks:
            return chunks.head > 0
    except ShmError:
        return False  # not made yet
