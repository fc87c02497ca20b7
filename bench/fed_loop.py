"""The real control loop, fed with a measurement before each tick and with chunks now and then.

The loop, the rings and the robot's driver are the real ones; inference is played, and the simulator
where the robot is its, by the loop's own process between two ticks.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

from feed import CHUNK_EVERY, Feed

from rt import clock
from rt.config import Config, Realtime
from rt.control.loop import ControlLoop
from rt.control.ticker import Tick
from rt.records import Hold, Phase
from rt.robots.robot import Robot
from rt.robots.sim.robot import SimRobot
from rt.session import Session

PRIORITY = Realtime().priority


@contextmanager
def as_control() -> Iterator[str]:
    """Within, this thread runs as control does: no collector, and SCHED_FIFO if it may; tells.

    Not with RESET_ON_FORK, as control has it: only root could take that back.
    """
    gc.disable()
    how = "SCHED_FIFO"
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except PermissionError:
        how = "without SCHED_FIFO"
    try:
        yield how
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        gc.enable()


class FedLoop:
    """Assumption: `config` has no warm-up ticks and no end of the episode."""

    def __init__(self, config: Config, session: Session, robot: Robot) -> None:
        self.loop = ControlLoop(
            config,
            robot,
            ticks=session.writer("tick"),
            chunks=session.reader("chunk"),
            commands=session.reader("command"),
        )
        self.k = 0  # the next tick of `tick_now`
        self._feed = Feed(config, session)

    @property
    def executing(self) -> bool:
        """Whether the last tick executed a row of a chunk."""
        record = self.loop.record
        return int(record["phase"]) == Phase.RUN and int(record["hold"]) == Hold.NONE

    def measure(self) -> None:
        """A new state from the robot."""
        self._feed.measure()

    def infer(self) -> None:
        """A new chunk from inference, observed three ticks ago."""
        self._feed.infer(max(self.k - 3, 0), self.loop.episode.number)

    def tick_now(self, skipped: int = 0) -> int:
        """One tick, due now, after so many that were skipped; returns how long it took, ns."""
        self.k += skipped
        start = clock.now_ns()
        self.loop.tick(Tick(self.k, start, start), skipped=skipped)
        self.k += 1
        return clock.now_ns() - start

    def back_to_back(self, ticks: int) -> list[int]:
        """How long each of `ticks` ticks took, ns."""
        took = []
        for _ in range(ticks):
            self.measure()
            if self.k % CHUNK_EVERY == 0:
                self.infer()
            took.append(self.tick_now())
        assert self.executing
        return took


def executing(config: Config, session: Session) -> FedLoop:
    """A loop with the simulated robot, once it executes."""
    fed = FedLoop(config, session, SimRobot(config, session))
    while not fed.executing:
        fed.measure()
        fed.infer()
        fed.tick_now()
    return fed
