"""The way to the initial pose, where an episode begins."""

from __future__ import annotations

import numpy as np

from rt.arrays import Vector
from rt.config import Config
from rt.control.recorder import Recorder
from rt.robots.robot import Robot


class Approach:
    """Where the robot is to go before an episode, and whether it is there."""

    def __init__(self, config: Config, robot: Robot, recorder: Recorder) -> None:
        self.goal = np.zeros(config.params.action_dim)  # (A,) rad
        self.speed = config.initial_delta_rad_per_tick
        self._robot = robot
        self._recorder = recorder
        self._lower, self._upper = config.lower_rad, config.upper_rad
        self._tolerance = float(np.deg2rad(config.robot.arrival_tolerance_deg))
        self._names = config.joint_names
        self._has_goal = False

    def find_goal(self, measured: Vector) -> bool:
        """Ask the robot, once per episode. False: its driver failed; the next tick asks again."""
        if self._has_goal:
            return True
        try:
            np.copyto(self.goal, self._robot.init_robot_position())
        except Exception as error:
            self._recorder.count_fault(error)
            return False
        np.copyto(self.goal, measured, where=np.isnan(self.goal))
        np.clip(self.goal, self._lower, self._upper, out=self.goal)
        self._has_goal = True
        return True

    def is_there(self, last: Vector, measured: Vector) -> bool:
        """Commanded there, and measured there."""
        if not (last == self.goal).all():
            return False
        away = np.abs(measured - self.goal)
        worst = int(np.argmax(away))
        if away[worst] <= self._tolerance:
            return True
        self._recorder.why = (
            f"{self._names[worst]} is {np.rad2deg(away[worst]):.1f} deg from the initial pose "
            f"(arrival_tolerance_deg {np.rad2deg(self._tolerance):g})"
        )
        return False

    def over(self) -> None:
        """The episode begins: the next one has a way of its own."""
        self._has_goal = False
