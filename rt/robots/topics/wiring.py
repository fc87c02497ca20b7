"""The topics file as order maps: which values of which message are which joints of a vector.

A message has its own order (IGRIS_B's: right, then left), a vector that of `robot.state_keys`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from rt.arrays import Vector
from rt.config import Config, Topic
from rt.config.topic_names import resolve_topic
from rt.errors import ConfigError
from rt.robots.bus import full_type_name

ARRAYS = {"JointState": ("position", "velocity", "effort"), "Float32MultiArray": ("data",)}


class Array(NamedTuple):
    """One array of a message."""

    attr: str
    length: int
    parts: tuple[tuple[slice, slice], ...]  # where in the array, and where in the vector

    def pack(self, vector: Vector) -> list[float]:
        """The array of a message that carries `vector` (A,) rad; zeros where no joint lies."""
        values = [0.0] * self.length  # a list is what a message takes
        for part, joints in self.parts:
            values[part] = vector[joints].tolist()
        return values

    def unpack(self, values: Sequence[float], vector: Vector) -> None:
        """Write the joints among a message's `values` to `vector` (A,) rad."""
        for part, joints in self.parts:
            vector[joints] = values[part]

    def complaint(self, values: Sequence[float]) -> str:
        """Why a message's `values` are to be refused; empty if they are good."""
        if len(values) != self.length:
            return f"{len(values)} values of {self.attr}, not {self.length}"
        if not all(map(math.isfinite, values)):
            return f"{self.attr} is not finite"
        return ""


class Wire(NamedTuple):
    """One topic, as far as it carries joints of the vector."""

    key: str  # in the topics file
    topic: str  # resolved
    msg_type: str
    names: tuple[str, ...]  # which JointState.name must hold; (): whatever it holds
    arrays: tuple[Array, ...]


def state_wires(config: Config) -> tuple[Wire, ...]:
    """The topics that make up the state. Raises ConfigError for a file that cannot be meant."""
    return _wires(config, "topics", config.topics.topics)


def command_wires(config: Config) -> tuple[Wire, ...]:
    """The topics that make up a command. Raises ConfigError likewise."""
    wires = _wires(config, "commands", config.topics.commands)
    for wire in wires:
        for array in wire.arrays:
            filled = len(_indices(array))
            if filled != array.length:
                raise ConfigError(
                    f"{config.sources.topics}: commands: expected slices of {wire.topic} that "
                    f"fill its {array.length} values of {array.attr}, got {filled} of them"
                )
    return wires


def check(config: Config) -> None:
    """Raise ConfigError unless every joint is measured and commanded by the topics file."""
    state_wires(config)
    command_wires(config)


def _wires(config: Config, section: str, topics: dict[str, Topic]) -> tuple[Wire, ...]:
    place = f"{config.sources.topics}: {section}"
    known = set(config.robot.state_keys)
    carried = {key for topic in topics.values() for key in topic.fields}
    for key in config.robot.state_keys:
        if key not in carried:
            raise ConfigError(
                f"{place}: expected a topic with the field {key!r}, got none: add it, e.g. "
                '"{robot_id}/joint_states" with "msg_type", and "fields" with "slice" and "attr"'
            )
    return tuple(
        _wire(config, name, topic, place)
        for name, topic in topics.items()
        if known & topic.fields.keys()  # motor currents alone are nobody's state
    )


def _wire(config: Config, key: str, topic: Topic, place: str) -> Wire:
    place = f"{place}.{key}"
    try:
        full_type_name(topic.msg_type)
        name = resolve_topic(topic.topic, config.topics.robot_id, config.topics.namespace)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None
    if topic.names and topic.msg_type != "JointState":
        raise ConfigError(f"{place}.names: expected none, since a {topic.msg_type} has no names")
    joints = config.joint_slices
    parts: dict[str, list[tuple[slice, slice]]] = {}
    for state_key, field in topic.fields.items():
        if state_key not in joints:
            continue
        if field.attr not in ARRAYS[topic.msg_type]:
            raise ConfigError(
                f"{place}.fields.{state_key}.attr: expected "
                f"{' or '.join(ARRAYS[topic.msg_type])} of {topic.msg_type}, got {field.attr!r}"
            )
        parts.setdefault(field.attr, []).append((slice(*field.slice), joints[state_key]))
    arrays = tuple(
        # Names tell how many there are; else what is asked for is all there is.
        Array(attr, len(topic.names) or max(part.stop for part, _ in pairs), tuple(pairs))
        for attr, pairs in parts.items()
    )
    for array in arrays:
        indices = _indices(array)
        if len(set(indices)) < len(indices):
            raise ConfigError(
                f"{place}: expected slices of {array.attr} that do not overlap: two joints would "
                "be one value"
            )
        if max(indices) >= array.length:
            raise ConfigError(
                f"{place}: expected slices within the {array.length} names, got one beyond"
            )
    return Wire(key, name, topic.msg_type, topic.names, arrays)


def _indices(array: Array) -> list[int]:
    """Which values of the array are joints of the vector."""
    return [index for part, _ in array.parts for index in range(part.start, part.stop)]
