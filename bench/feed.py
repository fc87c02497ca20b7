"""A session without a simulator and without inference, and what plays both in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from rt import clock
from rt.config import Config
from rt.robots.sim.robot import rings
from rt.session import Lock, Session, ring_table

CHUNK_EVERY = 25  # ticks, where nothing else is said


@contextmanager
def session_for(
    label: str, config: Config, **others: tuple[np.dtype[np.void], int]
) -> Iterator[Session]:
    """The rings of a session and of the simulator, and others; removed at the end."""
    session = Session(f"{label}-{os.getpid()}")
    with Lock(session.name, "supervisor"):  # so that nobody cleans it up as a dead session
        try:
            session.create(ring_table(config) | rings(config) | others)
            session.publish_config(config)
            yield session
        finally:
            session.clean()


class Feed:
    """The robot stays at its initial pose, and every chunk says so."""

    def __init__(self, config: Config, session: Session) -> None:
        self._states, self._chunks = session.writer("sim.state"), session.writer("chunk")
        self._state, self._chunk = self._states.buffer(), self._chunks.buffer()
        self._state["position"] = np.nan_to_num(config.initial_rad, nan=0.1)
        self._chunk["actions"] = self._state["position"]

    def measure(self) -> None:
        """A new state from the robot."""
        self._state["t_capture"] = clock.now_ns()
        self._states.write(self._state)

    def infer(self, tick: int, episode: int) -> int:
        """A new chunk from inference, observed at `tick`; returns its index."""
        self._chunk["first_tick"] = self._chunk["obs_tick"] = tick
        self._chunk["episode"] = episode
        return self._chunks.write(self._chunk)
