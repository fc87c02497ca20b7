"""Whatever bytes come over DDS: a message or a refusal that is counted, never an exception out of
`read_state`, and never a state that is not a number."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from broken_files import changed_bytes
from dds_env import fresh_domain, fresh_robot_id
from fuzzing import fuzz
from good_messages import TYPES, good
from hypothesis import strategies as st
from reliability import tell
from scale import Scale

from rt.config import Config
from rt.config.load import load_config
from rt.launcher.options import parse
from rt.robots.dds import DdsBus
from rt.robots.igris_c.messages import LOW_STATE_TOPIC
from rt.robots.igris_c.robot import IgrisC
from rt.robots.intake import Intake
from rt.robots.robot import State
from rt.robots.topics.robot import TopicRobot
from rt.session import Session

PATIENCE_S = 5.0
KNOWN = (b"\0\0", b"\0\1")  # of the encodings in a message's first two bytes those that are ours
HEADS = [b"", b"\0\1\0\0", b"\0\0\0\0", b"\0\1", b"\0\7\0\0", b"\1\1\0\0", b"\0\3\0\0", b"\xff" * 4]
LENGTHS = [0, 1, 11, 12, 13, 2**16, 2**31, 2**32 - 1]
ODD_FLOATS = [0x7FF00000, 0x7FC00000, 0x7F800001, 0xFFC00000, 0x7FEFFFFF]


@st.composite
def hostile(draw: Any, kind: str) -> bytes:
    """Random bytes behind a head that may be right; or a good message cut, or changed, or with
    lengths that reach beyond it."""
    message = good(kind)
    how = draw(st.sampled_from(["random", "changed", "lengths", "longer", "floats"]))
    if how == "random":
        return bytes(draw(st.sampled_from(HEADS)) + draw(st.binary(max_size=200)))
    if how == "changed":
        return bytes(draw(changed_bytes(message)))
    if how == "longer":
        return message + bytes(draw(st.binary(min_size=1, max_size=64)))
    changed = bytearray(message)
    for place in draw(st.lists(st.integers(1, len(message) // 4 - 2), max_size=4)):
        number = st.sampled_from(LENGTHS if how == "lengths" else ODD_FLOATS)
        changed[4 * place : 4 * place + 4] = struct.pack("<I", draw(number))
    return bytes(changed)


@pytest.mark.parametrize("kind", TYPES)
def test_any_bytes_are_a_message_or_an_error_of_the_decoder(
    kind: str, scale: Scale, dice: random.Random
) -> None:
    def attempt(data: bytes) -> str:
        try:
            message: Any = TYPES[kind].deserialize(data)
        except (ValueError, struct.error):
            return "refused"
        assert isinstance(message, TYPES[kind])
        return "decoded"

    assert attempt(good(kind)) == "decoded"
    tell("fuzz", f"bytes as a {kind}", str(fuzz(scale, dice, hostile(kind), attempt)))


class Wire:
    """A started driver, and a process that sends what it is told."""

    def __init__(
        self, robot: Any, intakes: dict[str, Intake], kinds: dict[str, str], process: Any
    ) -> None:
        self.robot = robot
        self.intakes = intakes
        self.kinds = kinds  # of the message on each topic
        self._process = process
        self.state: State = robot.read_state()

    def send(self, topic: str, data: bytes, stamp_ns: int) -> str:
        """What became of it: `refused`, or `accepted`."""
        intake = self.intakes[topic]
        before = intake.refused
        # What is no news is told so by `late` alone, and by the time: neither may be lost.
        intake.late = ""
        data = data.ljust(4, b"\0")  # cyclonedds sends no fewer
        if data[:2] not in KNOWN and any(data[2:4]):  # few of these: each is waited for
            data = KNOWN[data[1] % 2] + data[2:]
        self._process.stdin.write(f"{topic} {data.hex()} {stamp_ns}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        assert answer in ("sent", "not sent")
        if answer == "not sent":
            return "not sent by cyclonedds"
        deadline = time.monotonic() + PATIENCE_S
        while not intake.late:
            if time.monotonic() > deadline:  # an encoding that it does not know
                assert data[:2] not in KNOWN, f"neither taken nor refused: {data.hex()}"
                return "dropped by cyclonedds"
            self.look()
        assert intake.refused - before in (0, 1)
        return "refused" if intake.refused > before else "accepted"

    def look(self) -> None:
        self.state = self.robot.read_state()
        assert np.isfinite(self.state.position).all()
        assert 0 < self.state.t_capture <= time.monotonic_ns()
        assert isinstance(self.state.fault, str)
        assert isinstance(self.state.late, str)


def confined(robot: str, domain: int, robot_id: str) -> Config:
    """The robot's own configuration, on loopback."""
    flags = ["--robot", robot, "--io", "dds", f"--set=run.domain={domain}"]
    config = load_config(parse([*flags, f"--set=topics.robot_id={robot_id}"])).config
    return msgspec.structs.replace(config, run=msgspec.structs.replace(config.run, fake="fuzz"))


@contextmanager
def wire(name: str) -> Iterator[Wire]:
    domain, robot_id = fresh_domain(), fresh_robot_id()
    config = confined(name, domain, robot_id)
    robot: Any
    if name == "igris_b":
        robot = TopicRobot(config, DdsBus(domain, loopback=True))
        at = f"rt/igris_b/{robot_id}"
        kinds = {f"{at}/joint_states": "JointState", f"{at}/finger_state": "Float32MultiArray"}
    else:
        robot = IgrisC(config, Session("fuzz"))
        kinds = {LOW_STATE_TOPIC: "LowState"}
    program = Path(__file__).with_name("raw_sender.py")
    process = subprocess.Popen(
        [sys.executable, str(program), str(domain), *(f"{t}={kind}" for t, kind in kinds.items())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        robot.start_state_readers()
        if name == "igris_b":
            intakes = {f"rt{reading.wire.topic}": reading.intake for reading in robot._readings}
        else:
            intakes = {LOW_STATE_TOPIC: robot._reader.intake}
        found = Wire(robot, intakes, kinds, process)
        settle(found)
        yield found
    finally:
        process.kill()
        process.communicate()
        robot.shutdown()


def settle(wire: Wire) -> None:
    """Have each topic take one told message, and whatever good ones were still on the way."""
    for topic, kind in wire.kinds.items():
        wire.send(topic, good(kind), 0)
    deadline = time.monotonic() + 0.2
    while time.monotonic() < deadline:
        wire.look()


@pytest.mark.parametrize("name", ["igris_b", "igris_c"])
def test_any_bytes_on_the_wire_are_taken_or_refused_and_counted(
    name: str, scale: Scale, dice: random.Random
) -> None:
    with wire(name) as found:
        kinds = found.kinds
        topics = st.sampled_from(list(kinds))
        stamps = st.one_of(st.just(0), st.integers(1, 2**31 * 10**9 - 1), st.integers(1, 10**9))
        cases = topics.flatmap(lambda t: st.tuples(st.just(t), hostile(kinds[t]), stamps))
        tried = fuzz(scale, dice, cases, lambda case: found.send(*case))
        for topic, kind in kinds.items():  # and a good one still arrives
            answers = [found.send(topic, good(kind), 0) for _ in range(3)]
            assert answers[-1] == "accepted"  # igris_c believes in a new counter the third time
    tell("fuzz", f"messages to a driver of {name} from another process", str(tried))
