"""What the robot is told, heard at its side: every command on the fake robot's own topics."""

from __future__ import annotations

from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
from cyclonedds.domain import DomainParticipant
from launched import until
from numpy.typing import NDArray
from playing import Fake

from rt.arrays import Vector
from rt.config import Config
from rt.config.load import load_config
from rt.launcher.options import parse
from rt.robots.dds import DdsBus
from rt.robots.dds.messages import IDL_TYPES
from rt.robots.fake.hearing import Hearing
from rt.robots.topics.wiring import Wire, command_wires

SINGLE_PRECISION_RAD = 2e-6  # on the wire
LOST_NS = 1_000_000_000  # not commanded for so long, a robot may be found somewhere else


class Heard(NamedTuple):
    """One command on one topic."""

    t_sent: int  # by the sender's wall clock, ns
    position: Vector  # (A,) rad, NaN where the topic says nothing


class RobotSide:
    """A listener beside a fake robot. Use as a context manager, within the fake's life or not."""

    def __init__(self, fake: Fake) -> None:
        words = ["--robot", fake.robot, "--io", "dds", *fake.where]
        self._config = load_config(parse(words)).config
        self._bus = DdsBus(fake.domain, loopback=True)
        self._participant = DomainParticipant(fake.domain)
        wires = command_wires(self._config)
        self._hearings = {wire.topic: (wire, self._hearing(wire)) for wire in wires}
        self.heard: dict[str, list[Heard]] = {topic: [] for topic in self._hearings}

    def _hearing(self, wire: Wire) -> Hearing:
        return Hearing(self._participant, f"rt{wire.topic}", IDL_TYPES[wire.msg_type])

    def listen(self) -> int:
        """Take in what came; returns how many commands came so far, on the topic with most."""
        for topic, (wire, hearing) in self._hearings.items():
            for message in hearing.messages():
                self.heard[topic].append(_heard(wire, message, self._config))
        return max(map(len, self.heard.values()))

    def when_commanded(self, more: int = 1) -> None:
        """Return once so many more commands have come."""
        count = self.listen() + more
        until("the robot to be commanded", lambda: self.listen() >= count)

    def check(self, config: Config) -> float:
        """That each command was finite, within the position limits, and within one slew step of
        the one before on its topic, unless the robot was lost in between. Returns the largest step
        as a share of its limit. `config`: the session's."""
        self.listen()
        largest = 0.0
        for commands in self.heard.values():
            positions = np.array([command.position for command in commands])
            said = np.isfinite(positions).any(axis=0)
            assert np.isfinite(positions[:, said]).all()
            assert (positions >= config.lower_rad - SINGLE_PRECISION_RAD)[:, said].all()
            assert (positions <= config.upper_rad + SINGLE_PRECISION_RAD)[:, said].all()
            together = np.diff([command.t_sent for command in commands]) < LOST_NS
            steps = np.abs(np.diff(positions, axis=0))[together][:, said]
            limits = config.max_delta_rad_per_tick[said]
            assert (steps <= limits + SINGLE_PRECISION_RAD).all(), (steps / limits).max()
            largest = max(largest, (steps / limits).max(initial=0.0))
        return largest

    def sent(self, topic: str) -> NDArray[np.int64]:
        """(n,) when the commands on the topic whose name ends so were sent, ns of the sender's wall
        clock."""
        self.listen()
        commands = next(heard for name, heard in self.heard.items() if name.endswith(topic))
        return np.array([command.t_sent for command in commands], np.int64)

    def __enter__(self) -> RobotSide:
        return self

    def __exit__(self, *_: object) -> None:
        del self._hearings, self._participant
        with closing(self._bus):
            pass


def _heard(wire: Wire, message: Any, config: Config) -> Heard:
    position = np.full(config.params.action_dim, np.nan)
    for array in wire.arrays:
        values = getattr(message, array.attr)
        assert not array.complaint(values), array.complaint(values)
        array.unpack(values, position)
    return Heard(message.sample_info.source_timestamp, position)
