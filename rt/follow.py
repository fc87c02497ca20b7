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

PATIENCE_S = 90.0


class Followed:
    """Every tick record and every chunk of a running session, from when control executes."""

    def __init__(self, session: Session) -> None:
        self.statistics = TickStatistics(session.reader("tick"))
        self._chunks = session.reader("chunk")
        self._newest_chunks = np.zeros(self._chunks.slots - 4, self._chunks.dtype)
        self._ticks: list[NDArray[Any]] = []
        self.published: dict[int, NDArray[Any]] = {}

    def follow(self, seconds: float) -> NDArray[Any]:
        """Follow for so long; returns all tick records so far."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._ticks.append(self.statistics.update().copy())
            self._take_chunks()
            time.sleep(0.01)
        return np.concatenate(self._ticks)

    def _take_chunks(self) -> None:
        """Also those that were published before we came, or while we slept."""
        seen = max(self.published, default=-1) + 1
        new = min(self._chunks.head - seen, len(self._newest_chunks))
        index = self._chunks.read_window(self._newest_chunks, new) if new > 0 else None
        if index is not None:
            for i in range(new):
                self.published[index + 1 - new + i] = self._newest_chunks[i].copy()


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
