"""The robot's side of a topics file: publishes the state that control reads, takes its commands.

The file says it all: which topics, of which type, and where in a message each state key lies.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np

from rt import clock
from rt.arrays import Vector
from rt.config import Topic
from rt.config.topic_names import resolve_topic
from rt.robots.bus import Publisher
from rt.robots.dds.messages import IDL_TYPES
from rt.robots.fake.faults import FLOOD, Faults
from rt.robots.fake.hearing import Hearing
from rt.robots.fake.report import Stream
from rt.robots.fake.stage import Stage


class Part(NamedTuple):
    """Where a state key lies: in a message's array, and in the robot's vector."""

    attr: str
    wire: slice
    vector: slice


class Spoken(NamedTuple):
    """A topic that the robot publishes."""

    key: str  # its name in the topics file
    topic: Topic
    publisher: Publisher
    parts: list[Part]


class Heard(NamedTuple):
    """A topic that the robot obeys."""

    hearing: Hearing
    parts: list[Part]
    stream: Stream


class RosSide:
    """Both directions of the wire, as the robot has them."""

    def __init__(self, stage: Stage) -> None:
        self._bus, self._faults = stage.bus, stage.faults
        topics = stage.config.topics
        vector = stage.config.joint_slices
        self._spoken: list[Spoken] = []
        self._heard: list[Heard] = []
        for key, topic in topics.topics.items():
            name = resolve_topic(topic.topic, topics.robot_id, topics.namespace)
            publisher = stage.bus.advertise(name, topic.msg_type)
            self._spoken.append(Spoken(key, topic, publisher, _parts(topic, vector)))
        for topic in topics.commands.values():
            name = resolve_topic(topic.topic, topics.robot_id, topics.namespace)
            hearing = Hearing(stage.participant, f"rt{name}", IDL_TYPES[topic.msg_type])
            stream = stage.report.streams[name] = Stream()
            self._heard.append(Heard(hearing, _parts(topic, vector), stream))

    def listen(self, target: Vector, position: Vector) -> None:
        """Write what is commanded into `target` (S,) rad. `position` (S,): where the robot is."""
        for heard in self._heard:
            for message in heard.hearing.messages():
                command = _command(message, heard.parts, len(target))
                if command is None:
                    heard.stream.refused += 1
                    continue
                commanded = ~np.isnan(command)
                before = target if heard.stream.commands else position
                heard.stream.note(command[commanded], before[commanded], clock.now_ns())
                target[commanded] = command[commanded]

    def publish(self, position: Vector, effort: Vector) -> None:
        """Publish `position` (S,) rad and `effort` (S,)."""
        for spoken in self._spoken:
            if self._faults.on("stall", spoken.key):
                continue
            message = self._message(spoken, position, effort)
            for _ in range(FLOOD if self._faults.on("flood", spoken.key) else 1):
                spoken.publisher.publish(message)

    def _message(self, spoken: Spoken, position: Vector, effort: Vector) -> Any:
        message = self._bus.message(spoken.topic.msg_type)
        for attr in {part.attr for part in spoken.parts}:
            parts = [part for part in spoken.parts if part.attr == attr]
            source = effort if attr == "effort" else position
            values = _wire(parts, source, len(spoken.topic.names))
            setattr(message, attr, _spoilt(values, spoken.key, self._faults))
        if spoken.topic.msg_type == "JointState":
            _finish_joint_state(message, spoken, effort, self._faults)
        return message


def _finish_joint_state(message: Any, spoken: Spoken, effort: Vector, faults: Faults) -> None:
    """Add what the topics file does not tell: the stamp, the names, the effort."""
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(time.time_ns(), 10**9)
    if not message.effort:
        message.effort = _wire(spoken.parts, effort, len(message.position))
    message.name = list(spoken.topic.names) or [f"joint{i}" for i in range(len(message.position))]
    if faults.on("names", spoken.key):
        for attr in ("name", "position", "effort"):
            values = getattr(message, attr)
            setattr(message, attr, values[1:] + values[:1])


def _parts(topic: Topic, vector: dict[str, slice]) -> list[Part]:
    return [
        Part(field.attr, slice(*field.slice), vector[key])
        for key, field in topic.fields.items()
        if key in vector
    ]


def _wire(parts: list[Part], vector: Vector, length: int) -> list[float]:
    """The parts of `vector` as a message's array of at least `length`; zeros where it has none."""
    values = np.zeros(max(length, *(part.wire.stop for part in parts)))
    for part in parts:
        values[part.wire] = vector[part.vector]
    return list(map(float, values))


def _command(message: Any, parts: list[Part], joints: int) -> Vector | None:
    """(joints,) rad, NaN where the message says nothing; None for one not to be obeyed."""
    if message is None:
        return None
    command = np.full(joints, np.nan)
    for part in parts:
        values = np.asarray(getattr(message, part.attr), np.float64)
        if len(values) != max(p.wire.stop for p in parts if p.attr == part.attr):
            return None
        if not np.isfinite(values).all():
            return None
        command[part.vector] = values[part.wire]
    return command


def _spoilt(values: list[float], key: str, faults: Faults) -> list[float]:
    """The array as the faults in force make it."""
    if faults.on("short", key):
        values = values[:-1]
    if faults.on("long", key):
        values = [*values, 0.0]
    if faults.on("nan", key):
        values = [float("nan"), *values[1:]]
    return values
