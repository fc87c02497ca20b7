"""The robot's end of a wire, as a process: `python side.py KIND SPEC`, SPEC in JSON.

Publishes its position 200 times a second, once it was told one. Standard input tells it, in lines
of JSON: `{"position": [...]}`, or `{"follow": true}` to be where it is commanded. Standard output
tells `{"matched": true}` when whoever commands it is there, `{"published": n}` every ten times, and
each message that came: `{"command": [...]}`, where a joint that was never commanded is null.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from cyclonedds.internal import InvalidSample

PERIOD_S = 0.005

Vector = np.ndarray[tuple[int], np.dtype[np.float64]]


class Wire(Protocol):
    def matched(self) -> bool: ...

    def publish(self, position: Vector) -> None: ...

    def obey(self, target: Vector) -> Iterator[None]:
        """Write each message that came into `target`, one after the other."""
        ...


class Rings:
    """The simulator's rings. `session`."""

    def __init__(self, session: str) -> None:
        from rt import clock
        from rt.session import Session

        self._now = clock.now_ns
        self._states = Session(session).writer("sim.state")
        self._commands = Session(session).reader("sim.command")
        self._state, self._command = self._states.buffer(), self._commands.buffer()
        self._seen = self._commands.read_latest(self._command)

    def matched(self) -> bool:
        return True

    def publish(self, position: Vector) -> None:
        self._state["position"], self._state["t_capture"] = position, self._now()
        self._states.write(self._state)

    def obey(self, target: Vector) -> Iterator[None]:
        index = self._commands.read_latest(self._command)
        if index != self._seen:
            self._seen = index
            target[:] = self._command["position"]
            yield


class Topics:
    """ROS messages by raw cyclonedds. `states`, `commands`: [topic, type, indices, names], where
    value i of a message is joint `indices[i]`."""

    def __init__(self, domain: int, states: list[Any], commands: list[Any]) -> None:
        from cyclonedds.core import Policy, Qos
        from cyclonedds.domain import Domain, DomainParticipant
        from cyclonedds.pub import DataWriter
        from cyclonedds.sub import DataReader
        from cyclonedds.topic import Topic

        from rt.robots.dds.bus import LOOPBACK
        from rt.robots.dds.messages import IDL_TYPES

        qos = Qos(  # as ROS's drivers have it
            Policy.Reliability.Reliable(max_blocking_time=100_000_000),
            Policy.History.KeepLast(1000),
            Policy.DataRepresentation(use_cdrv0_representation=True),
        )
        self._domain = Domain(domain, LOOPBACK)
        self._participant = DomainParticipant(domain)
        self._states, self._commands = [], []
        for name, msg_type, indices, names in states:
            topic = Topic(self._participant, f"rt{name}", IDL_TYPES[msg_type], qos)
            message = IDL_TYPES[msg_type]()
            if names:
                message.name = names
            self._states.append((DataWriter(self._participant, topic, qos), message, indices))
        for name, msg_type, indices, _ in commands:
            topic = Topic(self._participant, f"rt{name}", IDL_TYPES[msg_type], qos)
            self._commands.append((DataReader(self._participant, topic, qos), indices))

    def matched(self) -> bool:
        return all(reader.get_matched_publications() for reader, _ in self._commands)

    def publish(self, position: Vector) -> None:
        for writer, message, indices in self._states:
            attr = "position" if hasattr(message, "position") else "data"
            setattr(message, attr, position[indices].tolist())
            writer.write(message)

    def obey(self, target: Vector) -> Iterator[None]:
        for reader, indices in self._commands:
            for message in reader.take(1000):
                if isinstance(message, InvalidSample):  # whoever commanded has left
                    continue
                values = message.position if hasattr(message, "position") else message.data
                assert len(values) == len(indices), message
                target[indices] = values
                yield


class IgrisC:
    """`rt/lowstate` and `rt/lowcmd`. `indices`: joint i of ours is the robot's `indices[i]`."""

    def __init__(self, domain: int, indices: list[int], mode: int) -> None:
        from rt.robots.dds import DdsBus
        from rt.robots.igris_c.messages import LOW_CMD_TOPIC, LOW_STATE_TOPIC, LowCmd, LowState

        self._bus = bus = DdsBus(domain, loopback=True)  # it ends with its last reference
        self._states = bus.advertise_type(LOW_STATE_TOPIC, LowState)
        self._commands = bus.subscribe_type(LOW_CMD_TOPIC, LowCmd)
        self._state, self._indices = LowState(), indices
        self._joints = self._state.record["joint_state" if mode else "motor_state"]["q"]

    def matched(self) -> bool:
        return self._commands.publishers > 0

    def publish(self, position: Vector) -> None:
        self._state.record["tick"] += 1
        self._joints[self._indices] = position
        self._states.publish(self._state)

    def obey(self, target: Vector) -> Iterator[None]:
        if (taken := self._commands.take()) is not None:
            target[:] = taken[0].record["motors"]["q"][self._indices]
            yield


class Udp:
    """The guide's robot: it listens at `port` and sends to `listen`."""

    def __init__(self, port: int, listen: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", port))
        self._socket.setblocking(False)
        self._to = ("127.0.0.1", listen)

    def matched(self) -> bool:
        return True

    def publish(self, position: Vector) -> None:
        self._socket.sendto(struct.pack("<q7d", time.time_ns(), *position), self._to)

    def obey(self, target: Vector) -> Iterator[None]:
        while True:
            try:
                datagram = self._socket.recv(1024)
            except BlockingIOError:
                return
            if len(datagram) == 56:  # DDS's search for peers comes to any port
                target[:] = struct.unpack("<7d", datagram)
                yield


KINDS = {"rings": Rings, "topics": Topics, "igris_c": IgrisC, "udp": Udp}


def main(kind: str, spec: dict[str, Any]) -> None:
    joints = spec.pop("joints")
    wire: Wire = KINDS[kind](**spec)
    target, position, follow = np.full(joints, np.nan), None, False
    matched, published = False, 0
    while True:
        if not matched and wire.matched():
            matched = True
            say({"matched": True})
        if select.select([sys.stdin], [], [], PERIOD_S)[0]:
            lines = os.read(0, 65536).splitlines()
            if not lines:
                return
            for told in map(json.loads, lines):
                follow = told.get("follow", follow)
                if "position" in told:
                    position = np.array(told["position"])
        for _ in wire.obey(target):
            say({"command": [None if np.isnan(x) else x for x in target.tolist()]})
        if position is not None:
            if follow:
                position = np.where(np.isnan(target), position, target)
            wire.publish(position)
            published += 1
            if published % 10 == 0:
                say({"published": published})


def say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
