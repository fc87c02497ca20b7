"""The following guard: a robot far from its command is blocked, or something moves it.

An emergency stop, contact, a hand on the arm: the command must not wait somewhere else for the
robot to be let go, or it would jump there.
"""

from __future__ import annotations

import numpy as np

from rt.arrays import Vector
from rt.config import Config


class Following:
    """Where control yields to, and when that is over.

    Guarantees:
      - It trips when a joint is measured further than its limit from its last command. `pose` is
        then what was measured, and stands still: the command goes there and does not creep after
        a robot that sinks, but to a new `pose` once the robot is too far from this one as well.
      - It is over when the command is at `pose`, and the robot was measured within the limits of
        it, for `following_release_s` on end.
    """

    def __init__(self, config: Config) -> None:
        self.tripped = False
        self.pose = np.zeros(config.params.action_dim)  # (A,) rad
        self.why = ""
        self._max_error = config.max_following_error_rad
        self._watches = bool(np.isfinite(self._max_error).any())
        self._lower, self._upper = config.lower_rad, config.upper_rad
        seconds = config.robot.following_release_s
        self._release_looks = max(1, round(seconds * config.control_hz))
        self._names = config.joint_names
        self._error = np.empty_like(self._max_error)
        self._followed = 0  # looks in a row

    def look(self, last: Vector, measured: Vector) -> bool:
        """Once a tick, with the last command and a fresh measurement (A,) rad: whether to yield."""
        if not self._watches:
            return False
        if not self.tripped:
            return self._trips(last, measured)
        if self._trips(self.pose, measured) or (last != self.pose).any():
            self._followed = 0
        else:
            self._followed += 1
        self.tripped = self._followed < self._release_looks
        return self.tripped

    def _trips(self, commanded: Vector, measured: Vector) -> bool:
        np.subtract(commanded, measured, out=self._error)
        np.abs(self._error, out=self._error)
        if not (self._error > self._max_error).any():
            return False
        worst = int(np.argmax(self._error / self._max_error))
        self.why = (
            f"{self._names[worst]} is {np.rad2deg(self._error[worst]):.0f} deg from its command "
            f"(limit {np.rad2deg(self._max_error[worst]):g})"
        )
        self.tripped = True
        self._followed = 0
        np.clip(measured, self._lower, self._upper, out=self.pose)
        return True
