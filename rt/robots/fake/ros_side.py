"""The robot's side of a topics file: publishes the state that control reads, takes its commands.

The file says it all: which topics, of which type, and where in a message each state key lies.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np

from rt.arrays import Vector
from rt.robots.bus import Publisher
from rt.robots.dds.messages import IDL_TYPES
from rt.robots.fake.faults import FLOOD, Faults
from rt.robots.fake.hearing import Hearing
from rt.robots.fake.report import Stream
from rt.robots.fake.stage import Stage
from rt.robots.fake.witness import Witness
from rt.robots.topics.wiring import Wire, command_wires, state_wires


class Spoken(NamedTuple):
    """A topic that the robot publishes."""

    wire: Wire
    publisher: Publisher


class Heard(NamedTuple):
    """A topic that the robot obeys."""

    wire: Wire
    hearing: Hearing
    stream: Stream
    witness: Witness


class RosSide:
    """Both directions of the wire, as the robot has them."""

    def __init__(self, stage: Stage) -> None:
        self._bus, self._faults = stage.bus, stage.faults
        self._spoken = [
            Spoken(wire, stage.bus.advertise(wire.topic, wire.msg_type))
            for wire in state_wires(stage.config)
        ]
        self._heard: list[Heard] = []
        for wire in command_wires(stage.config):
            hearing = Hearing(stage.participant, f"rt{wire.topic}", IDL_TYPES[wire.msg_type])
            stream = stage.report.streams[wire.topic] = Stream()
            witness = Witness(stream, stage.config.lower_rad, stage.config.upper_rad)
            self._heard.append(Heard(wire, hearing, stream, witness))

    def listen(self, target: Vector, position: Vector) -> None:
        """Write what is commanded into `target` (S,) rad. `position` (S,): where the robot is."""
        for heard in self._heard:
            for message in heard.hearing.messages():
                command = _command(message, heard.wire, len(target))
                if command is None:
                    heard.stream.refused += 1
                    continue
                heard.witness.saw(command, position, message)
                commanded = ~np.isnan(command)
                target[commanded] = command[commanded]

    def publish(self, position: Vector, effort: Vector) -> None:
        """Publish `position` (S,) rad and `effort` (S,)."""
        for heard in self._heard:
            heard.witness.told(position)
        for spoken in self._spoken:
            if self._faults.on("stall", spoken.wire.key):
                continue
            message = self._message(spoken.wire, position, effort)
            for _ in range(FLOOD if self._faults.on("flood", spoken.wire.key) else 1):
                spoken.publisher.publish(message)

    def _message(self, wire: Wire, position: Vector, effort: Vector) -> Any:
        message = self._bus.message(wire.msg_type)
        for array in wire.arrays:
            values = array.pack(effort if array.attr == "effort" else position)
            setattr(message, array.attr, _spoilt(values, wire.key, self._faults))
        if wire.msg_type == "JointState":
            _finish_joint_state(message, wire, effort, self._faults)
        return message


def _finish_joint_state(message: Any, wire: Wire, effort: Vector, faults: Faults) -> None:
    """Add what the topics file does not tell: the stamp, the names, the effort."""
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(time.time_ns(), 10**9)
    if not message.effort:
        message.effort = wire.arrays[0].pack(effort)
    message.name = list(wire.names) or [f"joint{i}" for i in range(len(message.position))]
    if faults.on("names", wire.key):
        for attr in ("name", "position", "effort"):
            values = getattr(message, attr)
            setattr(message, attr, values[1:] + values[:1])


def _command(message: Any, wire: Wire, joints: int) -> Vector | None:
    """(joints,) rad, NaN where the message says nothing; None for one not to be obeyed."""
    if message is None:
        return None
    command = np.full(joints, np.nan)
    for array in wire.arrays:
        values = getattr(message, array.attr)
        if array.complaint(values):
            return None
        array.unpack(values, command)
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
