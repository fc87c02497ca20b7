"""`rt.robots.robot.Robot` over ROS messages, by DDS alone or by rclpy.

Guarantees:
  - A message that is short, long, not finite, out of order or older than the one before changes
    nothing: its joints grow old until a good one comes, and control holds.
  - Nothing is published before the first action.

Assumptions:
  - One robot has the id. Two that publish on one topic are a fault.
  - Nobody else commands it. That is refused at the start, and a fault later.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np

from rt import clock
from rt.arrays import Vector
from rt.config import Config
from rt.robots.bus import MESSAGE_TYPES, Bus, Publisher
from rt.robots.robot import State
from rt.robots.topics.reading import Reading
from rt.robots.topics.wiring import Wire, command_wires, state_wires
from rt.robots.watch import Watch
from rt.session import Session


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
        self._max_age_ns = config.robot.max_state_age_ms * 1_000_000
        self._t_capture = 0  # of the newest state
        self._commanded = False

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
        self._watch = Watch(
            self._config,
            {reading.wire.topic: reading.intake.subscription for reading in self._readings},
            {command.wire.topic: command.publisher for command in self._commands},
        )
        self._watch.wait_for_state(self.read_state, self._bus, self._why_missing)

    def read_state(self) -> State:
        for reading in self._readings:
            reading.update(self._position)
        oldest = min((r.intake for r in self._readings), key=lambda intake: intake.t_published)
        self._t_capture = max(0, oldest.t_published - self._latency_ns)
        return State(self._position, self._t_capture, self._watch.fault(), oldest.late)

    def publish_action(self, action: Vector) -> None:
        for command in self._commands:
            for array in command.wire.arrays:
                setattr(command.message, array.attr, array.pack(action))
        self._commanded = True
        self._send()

    def init_robot_position(self) -> Vector:
        return self._initial

    def hold(self) -> None:
        # It keeps its target by itself; silent, it may be about to come back somewhere else.
        if self._commanded and clock.now_ns() - self._t_capture <= self._max_age_ns:
            self._send()

    def shutdown(self) -> None:
        self._bus.close()  # control's last tick was a hold

    def _send(self) -> None:
        now = time.time_ns()  # the wall clock, as ROS stamps
        for command in self._commands:
            if hasattr(command.message, "header"):
                stamp = command.message.header.stamp
                stamp.sec, stamp.nanosec = divmod(now, clock.NS_PER_S)
            command.publisher.publish(command.message)

    def _why_missing(self, there: dict[str, str]) -> str:
        missing = [reading for reading in self._readings if not reading.intake.t_published]
        return "; ".join(_why_missing(reading, there) for reading in missing)


def _why_missing(reading: Reading, there: dict[str, str]) -> str:
    topic, expected = reading.wire.topic, MESSAGE_TYPES[reading.wire.msg_type]
    if topic not in there:
        return f"expected {topic} ({expected}), which nobody publishes"
    if there[topic] != expected:
        return f"expected {topic} to be {expected}, got {there[topic]}: mend msg_type"
    if reading.intake.refused:
        return f"expected {topic} as the topics file describes it: {reading.intake.late}"
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
