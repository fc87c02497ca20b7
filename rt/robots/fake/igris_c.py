"""IGRIS_C played by 31 servos: no dynamics of a body, but motors that sag, lag and report.

Its motors and its joints are the same axes, so either kinematic mode may command it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rt.arrays import Vector
from rt.robots.fake.faults import FLOOD
from rt.robots.fake.hearing import Hearing
from rt.robots.fake.report import Stream
from rt.robots.fake.stage import Role, Stage
from rt.robots.fake.witness import Witness
from rt.robots.igris_c.messages import (
    LOW_CMD_TOPIC,
    LOW_STATE_TOPIC,
    MOTORS,
    LowCmd,
    LowState,
)

STATE_TOPIC = "lowstate"  # what a fault calls it
INERTIA = 0.05  # kg m², of each motor with what hangs on it
FRICTION = 0.5  # Nm s/rad
WEIGHT_NM = 0.1  # gravity, the same all the way round: what has no kp sinks
STOP_RAD = 2.6  # mechanical
ERROR_BIT = 1


class Servos:
    """31 motors that do as MotorCmd says: tau + kp (q* - q) + kd (dq* - dq).

    Integrated implicitly, so that no gain makes it unstable.
    """

    def __init__(self) -> None:
        """At zero, braked until the first command."""
        self.q: Vector = np.zeros(MOTORS)
        self.dq: Vector = np.zeros(MOTORS)
        self.torque: Vector = np.zeros(MOTORS)
        self.braked = True

    def step(self, command: np.void, duration_s: float) -> None:
        """Let `duration_s` pass under `command`, the `motors` of a LOW_CMD."""
        if self.braked:
            self.dq[:] = 0.0
            return
        kp, kd = command["kp"].astype(np.float64), command["kd"].astype(np.float64)
        wanted = command["tau"] + kp * (command["q"] - self.q) + kd * command["dq"] - WEIGHT_NM
        stiffness = INERTIA + duration_s * (kd + FRICTION) + duration_s**2 * kp
        self.dq = (INERTIA * self.dq + duration_s * wanted) / stiffness
        self.q = np.clip(self.q + duration_s * self.dq, -STOP_RAD, STOP_RAD)
        self.torque = command["tau"] + kp * (command["q"] - self.q) + kd * (command["dq"] - self.dq)


class FakeIgrisC:
    """`rt.robots.fake.stage.Played`."""

    def __init__(self, stage: Stage) -> None:
        self.places = (STATE_TOPIC, *map(str, range(MOTORS)))
        self._faults = stage.faults
        self._publisher = stage.bus.advertise_type(LOW_STATE_TOPIC, LowState)
        self._hearing = Hearing(stage.participant, LOW_CMD_TOPIC, LowCmd)
        self._stream = stage.report.streams[LOW_CMD_TOPIC] = Stream()
        unlimited = np.full(MOTORS, np.inf)  # the maker's limits are joints', not motors'
        self._witness = Witness(self._stream, -unlimited, unlimited)
        self._servos = Servos()
        command: Any = LowCmd()  # typed loosely: `record` is not among its annotations
        self._command = command.record
        state: Any = LowState()
        self._state = state
        imu = self._state.record["imu_state"]
        imu["quaternion"], imu["accelerometer"] = (1, 0, 0, 0), (0, 0, 9.81)

    def listen(self) -> None:
        """Take the commands that came. Without one the last counts on."""
        for message in self._hearing.messages():
            if message is None or not np.isfinite(message.record["motors"]["q"]).all():
                self._stream.refused += 1
                continue
            self._witness.saw(message.record["motors"]["q"], self._servos.q, message)
            self._command = message.record

    def step(self, duration_s: float) -> None:
        blocked = self._faults.on("block")
        self._servos.braked = blocked or not self._stream.commands
        self._servos.step(self._command["motors"], duration_s)

    def publish(self) -> None:
        if self._faults.on("stall", STATE_TOPIC):
            return
        self._witness.told(self._servos.q)
        record = self._state.record
        record["tick"] += 1
        for axes in (record["motor_state"], record["joint_state"]):
            axes["q"], axes["dq"] = self._servos.q, self._servos.dq
            axes["tau_est"] = self._servos.torque
            axes["status_bits"] = 0
            for motor in range(MOTORS):
                if self._faults.on("status", str(motor)):
                    axes["status_bits"][motor] = ERROR_BIT
        if self._faults.on("nan", STATE_TOPIC):
            record["motor_state"]["q"][0] = record["joint_state"]["q"][0] = np.nan
        for _ in range(FLOOD if self._faults.on("flood", STATE_TOPIC) else 1):
            self._publisher.publish(self._state)

    def paint(self, t_capture: int) -> None:
        """It has no cameras."""

    def close(self) -> None:
        """It has no rings."""


ROLE = Role(FakeIgrisC, rate_hz=300.0, sees=False)
