"""IGRIS_C seen from control: arms, hands and neck are commanded, legs and waist held.

Guarantees:
  - One message commands all 31 motors. Those that no joint group has stay at the position that was
    measured at the first action, for good: read anew each tick, it would creep under gravity.
  - Nothing is published before the first action.
  - A message that is not finite or older than the one before changes nothing; control holds when
    no good one comes.

Assumptions:
  - The robot is initialised, torque is on and its control mode is LOW_LEVEL: the SDK's tools.
  - Nobody else commands it. That is refused at the start, and a fault later.
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from cyclonedds.core import DDSException

from rt import clock
from rt.arrays import Vector
from rt.config import Config
from rt.errors import RobotError
from rt.robots.dds import DdsBus
from rt.robots.igris_c.messages import (
    LOW_CMD_TOPIC,
    LOW_STATE_TOPIC,
    MOTORS,
    KinematicMode,
    LowCmd,
    LowState,
)
from rt.robots.igris_c.options import wire
from rt.robots.igris_c.state import StateReader
from rt.robots.robot import State
from rt.robots.watch import Watch
from rt.session import Session

PERIOD_NS = round(1e9 / 300)  # of a safe stop's commands; the SDK's examples send as often


class IgrisC:
    """`rt.robots.robot.Robot`, and its `SafeStop`."""

    def __init__(self, config: Config, session: Session) -> None:
        """Raises ConfigError for options that do not fit, RobotError without a DDS domain."""
        self._config = config
        self._wiring = wire(config)
        self._initial = config.initial_rad
        self._latency_ns = round(config.robot.state_latency_ms * 1e6)
        self._bus = DdsBus(config.run.domain, loopback=bool(config.run.fake))
        self._command = LowCmd()
        record = self._command.record
        record["kinematic_mode"] = KinematicMode[self._wiring.mode.upper()].value
        self._motors = record["motors"]
        self._motors["id"] = np.arange(MOTORS)
        self._motors["kp"], self._motors["kd"] = self._wiring.kp, self._wiring.kd
        self._enabled = False  # the latched joints have their position
        self._latched = np.setdiff1d(np.arange(MOTORS), self._wiring.indices)
        self._max_slip = np.deg2rad(config.robot.max_following_error_deg or np.inf)

    def start_state_readers(self) -> None:
        # Nobody says how the robot publishes; a new state is there before a lost one would be.
        subscription = self._bus.subscribe_type(LOW_STATE_TOPIC, LowState, reliable=False)
        self._reader = StateReader(subscription, self._wiring)
        self._publisher = self._bus.advertise_type(LOW_CMD_TOPIC, LowCmd)
        self._watch = Watch(
            self._config, {LOW_STATE_TOPIC: subscription}, {LOW_CMD_TOPIC: self._publisher}
        )
        self._watch.wait_for_state(self.read_state, self._bus, self._reader.why_missing)

    def read_state(self) -> State:
        reader = self._reader
        reader.update()
        t_capture = max(0, reader.intake.t_published - self._latency_ns)
        fault = self._watch.fault() or reader.fault or self._slipped()
        return State(reader.q[self._wiring.indices], t_capture, fault, reader.intake.late)

    def publish_action(self, action: Vector) -> None:
        self._enable()
        self._motors["q"][self._wiring.indices] = action
        self._publisher.publish(self._command)

    def init_robot_position(self) -> Vector:
        return self._initial

    def hold(self) -> None:
        if self._enabled:
            self._publisher.publish(self._command)

    def safe_stop(self) -> None:
        """Let the commanded joints sink under their damping, and hold the latched ones.

        From here kp of the commanded joints falls to 0 within `safe_stop_s`. In a new process
        everything is latched where it is measured now. Never tried on a real robot.
        """
        self._enable()
        indices = self._wiring.indices
        stiff = self._motors["kp"][indices].copy()
        ticks = clock.Ticks(clock.now_ns(), PERIOD_NS)
        last = max(1, round(self._config.robot.safe_stop_s * clock.NS_PER_S / PERIOD_NS))
        for k in range(last + 1):
            self._motors["kp"][indices] = stiff * (1 - k / last)
            with suppress(DDSException):  # one that is lost must not end the stop
                self._publisher.publish(self._command)
            clock.sleep_until(ticks.due(k + 1))

    def shutdown(self) -> None:
        self._bus.close()  # control's last tick was a hold

    def _slipped(self) -> str:
        """Which latched joint was moved away. Control watches only those that it commands."""
        if not self._enabled or not len(self._latched):
            return ""
        slips = np.abs(self._reader.q - self._motors["q"])[self._latched]
        worst = slips.argmax()
        if slips[worst] <= self._max_slip:
            return ""
        index, slip_deg = self._latched[worst], np.rad2deg(slips[worst])
        return f"index {index}, which is latched, is {slip_deg:.0f} deg from where it is held"

    def _enable(self) -> None:
        """Latch every joint where it was measured last. Raises RobotError without a state."""
        if self._enabled:
            return
        if not self._reader.intake.t_published:
            raise RobotError("expected IGRIS_C's state before its first command, got none yet")
        self._motors["q"] = self._reader.q
        self._enabled = True
