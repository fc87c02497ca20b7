"""`rt.robots.robot.Robot` over ROS messages, by DDS alone or by rclpy.

Guarantees:
  - A message that is short, long, not finite, out of order or older than the one before changes
    nothing: its joints grow old until a good one comes, and control holds.
  - Nothing is published before the first action.

Assumptions:
  - One robot has the id. Two that publish on one topic are a fault.
  - Nobody else commands it. That is looked for once, at the start.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np

from rt import clock
from rt.arrays import Vector
from rt.config import Config
from rt.errors import RobotError
from rt.robots.bus import MESSAGE_TYPES, Bus, Publisher
from rt.robots.robot import State
from rt.robots.topics.reading import Reading
from rt.robots.topics.wiring import Wire, command_wires, state_wires
from rt.session import Session

POLL_S = 0.001  # while waiting for the first state
LOOK_NS = 500_000_000  # how often publishers are counted


class Command(NamedTuple):
    """One command topic, and the message that is sent on it again and again."""

    wire: Wire
    publisher: Publisher
    message: Any


class TopicRobot:
    """A robot that the topics file describes."""

    def __init__(self, config: Config, bus: Bus) -> None:
        self._config = config
        self._bus = bus
        self._initial = config.initial_rad
        self._latency_ns = round(config.robot.state_latency_ms * 1e6)
        self._position: Vector = np.full(config.params.proprio_state_dim, np.nan)
        self._readings: list[Reading] = []
        self._commands: list[Command] = []
        self._commanded = False
        self._fault = ""
        self._next_look = 0

    def start_state_readers(self) -> None:
        for wire in state_wires(self._config):
            subscription = self._bus.subscribe(wire.topic, wire.msg_type)
            self._readings.append(Reading(wire, subscription))
        for wire in command_wires(self._config):
            publisher = self._bus.advertise(wire.topic, wire.msg_type)
            message = self._bus.message(wire.msg_type)
            if wire.names:
                message.name = list(wire.names)
            self._commands.append(Command(wire, publisher, message))
        deadline = time.monotonic() + self._config.robot.state_timeout_s
        while not self.read_state().t_capture:
            if time.monotonic() > deadline:
                raise RobotError(self._what_is_missing())
            time.sleep(POLL_S)
        self._refuse_another_commander()

    def read_state(self) -> State:
        for reading in self._readings:
            reading.update(self._position)
        oldest = min(self._readings, key=lambda reading: reading.t_published)
        t_capture = max(0, oldest.t_published - self._latency_ns)
        return State(self._position, t_capture, self._look_for_twins(), oldest.late)

    def publish_action(self, action: Vector) -> None:
        for command in self._commands:
            for array in command.wire.arrays:
                values = np.empty(array.length)
                for part, joints in array.parts:
                    values[part] = action[joints]
                setattr(command.message, array.attr, values.tolist())
        self._commanded = True
        self._send()

    def init_robot_position(self) -> Vector:
        return self._initial

    def hold(self) -> None:
        if self._commanded:
            self._send()

    def shutdown(self) -> None:
        try:
            self.hold()
        finally:
            self._bus.close()

    def _send(self) -> None:
        now = time.time_ns()  # the wall clock, as ROS stamps
        for command in self._commands:
            if hasattr(command.message, "header"):
                stamp = command.message.header.stamp
                stamp.sec, stamp.nanosec = divmod(now, clock.NS_PER_S)
            command.publisher.publish(command.message)

    def _look_for_twins(self) -> str:
        """What is wrong when a topic has more than one publisher."""
        now = clock.now_ns()
        if now >= self._next_look:
            self._next_look = now + LOOK_NS
            self._fault = ""
            for reading in self._readings:
                if (publishers := reading.subscription.publishers) > 1:
                    self._fault = (
                        f"{publishers} publishers on {reading.wire.topic}: two robots with one id?"
                    )
        return self._fault

    def _refuse_another_commander(self) -> None:
        there = self._bus.topics()
        for command in self._commands:
            if command.wire.topic in there:
                raise RobotError(
                    f"expected nobody else to command {self._config.robot.name}, but "
                    f"{command.wire.topic} is published on domain {self._config.run.domain}: "
                    "stop the other program"
                )

    def _what_is_missing(self) -> str:
        """Which topics did not come, and what there is instead."""
        there = self._bus.topics()
        missing = [reading for reading in self._readings if not reading.t_published]
        whys = "; ".join(_why_missing(reading, there) for reading in missing)
        listed = ", ".join(f"{topic} ({kind})" for topic, kind in sorted(there.items()))
        remedy = "check the robot_id and the topics file"
        if not there:
            remedy = "is the robot on, in this network, and ROS_DOMAIN_ID its own?"
        return (
            f"no state from {self._config.robot.name} within "
            f"{self._config.robot.state_timeout_s:g} s on domain {self._config.run.domain}: "
            f"{whys}. Published there: {listed or 'nothing'}; {remedy}"
        )


def _why_missing(reading: Reading, there: dict[str, str]) -> str:
    topic, expected = reading.wire.topic, MESSAGE_TYPES[reading.wire.msg_type]
    if topic not in there:
        return f"expected {topic} ({expected}), which nobody publishes"
    if there[topic] != expected:
        return f"expected {topic} to be {expected}, got {there[topic]}: mend msg_type"
    if reading.was_refused:
        return f"expected {topic} as the topics file describes it: {reading.late}"
    return (
        f"expected messages on {topic}, got none: its publisher is silent, or best-effort, which "
        "a reliable subscription does not hear"
    )


def over_dds(config: Config, session: Session) -> TopicRobot:
    """The robot over plain DDS; with a fake robot, on loopback alone."""
    from rt.robots.dds import DdsBus

    return TopicRobot(config, DdsBus(config.run.domain, loopback=bool(config.run.fake)))


def over_ros2(config: Config, session: Session) -> TopicRobot:
    """The robot over the system's rclpy; with a fake robot, on this machine alone."""
    from rt.robots.ros2 import RosBus

    loopback = bool(config.run.fake)
    bus = RosBus(config.run.domain, config.topics.namespace, loopback=loopback)
    return TopicRobot(config, bus)
