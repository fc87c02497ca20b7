"""What goes to the robot: the limited command, or a hold.

Guarantees:
  - Every command sent is finite and within the limits, relative to the last one really sent
    (before that, and after the robot was lost: to the measured pose).
  - A robot that was never commanded is left as it is; in a dry run every robot is.
  - A hold that finds the robot moving under an acceleration bound brakes first.
  - A driver that raises may have sent all of a command, a part of it or nothing: what follows is
    within one step of the last command and of all that it raised for since.
"""

from __future__ import annotations

import numpy as np

from rt.arrays import Vector
from rt.config import Config
from rt.control.limits import Limits
from rt.control.recorder import Recorder
from rt.records import Hold
from rt.robots.robot import Robot


class Sender:
    """The robot's last command, and the only way to a next one."""

    def __init__(self, config: Config, robot: Robot, recorder: Recorder) -> None:
        # The record's own fields: what is written to them is published.
        self.target: Vector = recorder.record["target"]
        self.command: Vector = recorder.record["command"]
        self.last = np.empty_like(self.target)  # the command really sent last, else the pose
        self.sent = False  # whether anything was
        self._moved = False  # the driver would repeat another command than `last`
        self._doubtful = False  # the driver raised: the robot was told something between these
        self._least, self._most = np.empty_like(self.target), np.empty_like(self.target)
        self.limits = Limits(
            config.lower_rad,
            config.upper_rad,
            config.max_delta_rad_per_tick,
            config.max_acceleration_rad_per_tick2,
        )
        self._robot = robot
        self._recorder = recorder
        self._dry_run = config.run.dry_run
        for unknown in (self.target, self.command, self.last):
            unknown.fill(np.nan)

    def move(self, *, speed: Vector | None = None) -> Hold:
        """Send `target`, limited; `speed` (A,) rad per tick is a tighter slew limit.

        NONE, or NOT_SENT when the driver refused.
        """
        self._recorder.limited = self.limits.apply(self.target, self.last, self.command, speed)
        if self._dry_run or self._send():
            return Hold.NONE
        self.target[:] = self.command
        return Hold.NOT_SENT

    def hold(self, pose: Vector | None = None) -> None:
        """Stay at the last command; `pose` (A,) rad: go there and stay."""
        self._recorder.limited = 0
        if pose is not None or self.limits.moving:
            self.limits.apply(self.last if pose is None else pose, self.last, self.command)
        else:
            self.command[:] = self.last
        if self.sent and not self._dry_run:
            if self._doubtful or self._moved or (self.command != self.last).any():
                self._send()
            else:
                self._hold()
        self.target[:] = self.command

    def start_from(self, pose: Vector) -> None:
        """The robot was lost, and found at `pose` (A,) rad: what it was told before is void.

        It is held there; outside the position limits it is left alone, as at the start.
        """
        self.last[:] = pose
        self.sent = bool(((pose >= self.limits.lower) & (pose <= self.limits.upper)).all())
        self._moved, self._doubtful = True, False
        self.limits.not_sent()

    def _send(self) -> bool:
        if self._doubtful:
            step = self.limits.max_delta
            np.clip(self.command, self._most - step, self._least + step, out=self.command)
        try:
            self._robot.publish_action(self.command)
        except Exception as error:  # a driver's fault, whatever it is, must not end the loop
            self._recorder.count_fault(error)
            self._doubt()
            self.command[:] = self.last
            self.limits.not_sent()
            return False
        self._doubtful = self._moved = False
        self.limits.sent(self.command, self.last)
        self.last[:] = self.command
        self.sent = True
        return True

    def _doubt(self) -> None:
        """`command` may have reached the robot, or some of its joints."""
        if not self._doubtful:
            self._least[:] = self._most[:] = self.last
        np.minimum(self._least, self.command, out=self._least)
        np.maximum(self._most, self.command, out=self._most)
        self._doubtful = True

    def _hold(self) -> None:
        try:
            self._robot.hold()
        except Exception as error:
            self._recorder.count_fault(error)
        self.limits.not_sent()
