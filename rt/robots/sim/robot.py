"""The simulated robot, seen from control: two rings to the simulator's process.

Needs neither MuJoCo nor OpenCV: those live in `rt.robots.sim.process`.
"""

from __future__ import annotations

import numpy as np

from rt import clock
from rt.arrays import Vector
from rt.config import Config
from rt.records import sim_command_dtype, sim_state_dtype
from rt.robots.robot import State
from rt.session import Session


def rings(config: Config) -> dict[str, tuple[np.dtype[np.void], int]]:
    """The simulator's rings, beside those that every session has."""
    p = config.params
    return {
        "sim.state": (sim_state_dtype(p.proprio_state_dim), 8),
        "sim.command": (sim_command_dtype(p.action_dim), 8),
    }


class SimRobot:
    """`rt.robots.robot.Robot`, and its `Task`, over shared memory."""

    def __init__(self, config: Config, session: Session) -> None:
        self._states = session.reader("sim.state")
        self._commands = session.writer("sim.command")
        self._state = self._states.buffer()
        self._command = self._commands.buffer()
        self._position: Vector = self._state["position"]
        self._initial = config.initial_rad
        self._moved = False  # a command was sent
        self._scene = 0

    def start_state_readers(self) -> None:
        """Nothing to do: the simulator runs, and the rings are open."""

    def read_state(self) -> State:
        if self._states.read_latest(self._state) is None:
            return State(self._position, 0, late="the simulator has not written a state yet")
        t_capture = int(self._state["t_capture"])
        return State(self._position, t_capture, late="nothing new from the simulator")

    def publish_action(self, action: Vector) -> None:
        self._command["position"] = action
        self._moved = True
        self._send()

    def init_robot_position(self) -> Vector:
        return self._initial

    def hold(self) -> None:
        if self._moved:
            self._send()

    def _send(self) -> None:
        self._command["t_sent"] = clock.now_ns()
        self._commands.write(self._command)

    def prepare_episode(self) -> None:
        """Have the simulator draw a new scene."""
        self._scene += 1
        self._command["scene"] = self._scene

    def succeeded(self) -> bool:
        return bool(self._state["reached"]) and int(self._state["scene"]) == self._scene

    def shutdown(self) -> None:
        self._commands.close()
        self._states.close()
