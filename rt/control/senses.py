"""The robot as control sees it: what was measured, whether that is good, and since when it is not.

Guarantees:
  - `look` does not raise: what a driver does wrong is counted, named, and told in words.
  - `state` is the last measurement that was fresh and finite; never a part of another.
"""

from __future__ import annotations

import numpy as np

from rt.arrays import Vector
from rt.config import Config
from rt.control.limits import is_finite
from rt.control.recorder import Recorder
from rt.records import Hold
from rt.robots.robot import Robot, State

LOST_S = 1.0  # silent for longer, a robot may have been restarted, or moved


class Absence:
    """Since when something is not there."""

    def __init__(self) -> None:
        self._since_ns = 0

    def look(self, now_ns: int, *, there: bool) -> bool:
        """Whether it is away, or was until now, for longer than LOST_S."""
        # Ticks that were skipped, by planning in sequential mode say, do not count unless a look
        # before them failed.
        since_ns = self._since_ns or now_ns
        self._since_ns = 0 if there else since_ns
        return now_ns - since_ns > LOST_S * 1e9


class Senses:
    """One look at the robot a tick."""

    def __init__(self, config: Config, robot: Robot, recorder: Recorder) -> None:
        self.state: Vector = recorder.record["state"]  # (S,) rad; the record's own field
        self.state.fill(np.nan)
        self.measured = False  # in this tick, though perhaps of a robot that reports a fault
        self.lost = False  # there was no good look for LOST_S
        self.found = False  # the first good look after that, or the first that measured anything
        self._good_looks = Absence()
        self._measurements = Absence()
        self._robot = robot
        self._recorder = recorder
        self._max_age_ns = config.robot.max_state_age_ms * 1_000_000
        margin = np.deg2rad(config.robot.limit_margin_deg)
        self._lower, self._upper = config.lower_rad - margin, config.upper_rad + margin

    def look(self, now_ns: int) -> Hold:
        """NONE if the look was good; NO_STATE: nothing measured, or it is old or not finite."""
        self.measured = False
        try:
            sensed = self._read(now_ns)
        except Exception as error:  # a driver's fault, whatever it is, must not end the loop
            self._recorder.count_fault(error)
            sensed = Hold.NO_STATE
        good = sensed is Hold.NONE
        no_good_look = self._good_looks.look(now_ns, there=good)
        unseen = self._measurements.look(now_ns, there=self.measured)
        # One that comes back with a fault is found too: it must not be held where it was.
        self.found = (no_good_look and good) or (unseen and self.measured)
        self.lost = no_good_look and not good
        return sensed

    def is_near_limits(self) -> bool:
        """Whether the measured pose is one that limits can start from: a glitch, or degrees taken
        for radians, must not become the first command."""
        return bool(((self.state >= self._lower) & (self.state <= self._upper)).all())

    def _read(self, now_ns: int) -> Hold:
        state = self._robot.read_state()
        sensed = self._take(now_ns, state)  # a robot with a fault is watched all the more
        if state.fault:
            self._recorder.why = state.fault
            return Hold.ROBOT_FAULT
        return sensed

    def _take(self, now_ns: int, state: State) -> Hold:
        """Take the measurement over, if it is one."""
        position, t_state, _, late = state
        if not t_state or abs(now_ns - t_state) > self._max_age_ns:
            self._recorder.why = late if now_ns >= t_state else "its time lies in the future"
            return Hold.NO_STATE
        if not is_finite(position):
            self._recorder.robot_faults += 1
            self._recorder.why = "the measured state is not finite"
            return Hold.NO_STATE
        self.state[:] = position
        self._recorder.t_state = t_state
        self.measured = True
        return Hold.NONE
