"""What happened, in place of the clock, the robot and the operator of a `SimulatedRun`.

What the robot, the operator and the machine did is the recording's: states, faults, phases, when
each tick woke, which ticks were skipped. What control makes of it is its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rt.arrays import Vector
from rt.clock import Ticks
from rt.config import Config
from rt.control.episode import Episode
from rt.control.following import Following
from rt.errors import RobotError
from rt.infer.plan import Record
from rt.records import Hold, Phase, text
from rt.robots.robot import State
from rt.testing import FakeClock, FakeRobot


class Past:
    """Recorded ticks by their number."""

    def __init__(self, ticks: NDArray[Any], period_ns: int) -> None:
        """ticks: (n,) tick records, n > 0, oldest first."""
        self.ticks = ticks
        self.first, self.last = int(ticks["tick"][0]), int(ticks["tick"][-1])
        epoch_ns = int(ticks["t_due"][0]) - self.first * period_ns
        self.times = Ticks(epoch_ns, period_ns)
        self._numbers = ticks["tick"].copy()  # contiguous, to be searched

    def at(self, k: int) -> Record:
        """The newest record up to tick `k`: that of `k`, unless it was skipped or lost."""
        return self.ticks[max(0, int(np.searchsorted(self._numbers, k, side="right")) - 1)]

    def busy(self, k: int) -> float:
        """Ticks that tick `k`'s work took: more than one only if it cost others (an overrun)."""
        i = int(np.searchsorted(self._numbers, k))
        if i + 1 >= len(self.ticks) or self._numbers[i] != k:
            return 0.0
        skipped = int(self.ticks["overruns"][i + 1] - self.ticks["overruns"][i])
        late_ns = int(self.ticks["t_wake"][i] - self.ticks["t_due"][i])
        return max(0.0, skipped + 0.5 - late_ns / self.times.period_ns) if skipped else 0.0


class PastClock(FakeClock):
    """Wakes as late as each tick woke."""

    def __init__(self, past: Past) -> None:
        super().__init__(past.times.epoch_ns - past.times.period_ns)
        ticks = past.ticks
        self._woke = dict(zip(ticks["t_due"].tolist(), ticks["t_wake"].tolist(), strict=True))

    def sleep_until(self, t_ns: int) -> bool:
        self.t_ns = max(self.t_ns, t_ns, self._woke.get(t_ns, 0))
        return True


class PastRobot(FakeRobot):
    """Is where it was recorded, whatever it is told."""

    def __init__(self, past: Past, clock: FakeClock) -> None:
        super().__init__(past.ticks["state"][0], clock=clock)
        self._past = past

    @property
    def record(self) -> Record:
        """Of the tick that is being done."""
        return self._past.at(self.tick)

    def read_state(self) -> State:
        record = self.record
        hold, why = int(record["hold"]), text(record["why"])
        if hold == Hold.NO_STATE:
            return State(record["state"], 0, late=why)
        fault = (why or "told by the recording") if hold == Hold.ROBOT_FAULT else ""
        return State(record["state"], self._clock.now_ns(), fault)

    def publish_action(self, action: Vector) -> None:
        if int(self.record["hold"]) == Hold.NOT_SENT:
            raise RobotError(text(self.record["why"]))

    def init_robot_position(self) -> Vector:
        pose: Vector = self.record["target"]  # on the way there, what control wanted
        return pose

    def hold(self) -> None:
        pass


class PastEpisode(Episode):
    """Phases and episodes as they were recorded: the robot, the scene and the operator made them,
    and there is no telling when another policy would have succeeded."""

    def __init__(self, past: Past) -> None:
        super().__init__(0, 0)
        self._past = past

    def advance(self, k: int, *, succeeded: bool) -> None:
        record = self._past.at(k)
        self.phase = Phase(int(record["phase"]))
        self.number = int(record["episode"])
        self.valid_from = int(record["valid_from_tick"])
        self.t_start = int(record["episode_t_start"])
        self.ended, self.successes = int(record["episodes"]), int(record["successes"])
        self.success, self.prompt = bool(record["success"]), record["prompt"].item()

    def warm_up_left(self, k: int) -> int:
        return int(self._past.at(k)["hold"] == Hold.WARMUP)

    def settled(self, k: int) -> bool:
        return False  # `advance` has seen to it

    def start_afresh(self, k: int) -> None:
        pass


class PastFollowing(Following):
    """Control yields where it did. Whether the robot follows what is sent now, states that do not
    react cannot tell."""

    def __init__(self, config: Config, robot: PastRobot) -> None:
        super().__init__(config)
        self._robot = robot

    def look(self, last: Vector, measured: Vector) -> bool:
        record = self._robot.record
        self.tripped = int(record["hold"]) == Hold.NOT_FOLLOWING
        self.pose[:] = record["command"]
        self.why = text(record["why"])
        return self.tripped
