"""Whether a fake robot lives on this machine, and what it has seen.

Guarantees:
  - Of each robot, id and DDS domain at most one fake lives; a dead one is never found.

It holds a lock and rings as a session does, under a name of its own:
`fake`          the fake robot's `Presence`, as JSON
`fault`         the mailbox: one fault to begin with
`frame.<name>`  what its cameras see, for robots that have a world
"""

from __future__ import annotations

import time

import msgspec
import numpy as np

from rt.config.words import nearest
from rt.errors import LayoutError, NoSessionError, RobotError, SegmentMissingError
from rt.robots.fake.faults import Fault, parse_fault
from rt.robots.fake.report import Report
from rt.session import Session, holder

PRESENCE = np.dtype([("json", "S8192")])
FAULT = np.dtype([("text", "S128")])
PATIENCE_S = 2.0  # for a fault to be in force


class Presence(msgspec.Struct, frozen=True, kw_only=True):
    """A fake robot that lives."""

    session: str  # its session-like name
    robot: str
    robot_id: str
    domain: int
    loopback: bool  # its DDS does not leave this machine
    pid: int
    places: tuple[str, ...]  # where a fault may be
    report: Report


def fake_name(robot: str, robot_id: str, domain: int) -> str:
    """The fake's session-like name."""
    return f"fake-{robot}-{robot_id}-{domain}"


def find_fake(robot: str, robot_id: str, domain: int) -> Presence | None:
    """The fake that plays this robot with this id in this DDS domain, if one lives."""
    name = fake_name(robot, robot_id, domain)
    pid = holder(name, "supervisor")
    if pid is None:
        return None
    try:
        with Session(name).reader("fake") as ring:
            record = ring.buffer()
            if ring.read_latest(record) is None:
                return None  # it is only starting
    except (SegmentMissingError, LayoutError):  # its ring is not made yet, or not all of it
        return None
    presence = msgspec.json.decode(record["json"].item(), type=Presence)
    return presence if presence.pid == pid else None  # else it is a dead one's, and not yet ours


def give_fault(robot: str, robot_id: str, domain: int, text: str) -> Fault:
    """Have the living fake begin with a fault; returns it once it is in force.

    Raises RobotError for a fault that there is not, NoSessionError when no such fake lives.
    """
    fault = parse_fault(text)
    name = fake_name(robot, robot_id, domain)
    presence = find_fake(robot, robot_id, domain)
    if presence is None:
        raise NoSessionError(
            f"no fake {robot} with robot_id {robot_id!r} runs in DDS domain {domain}: start one "
            f"with python -m rt.robots.fake --robot {robot}"
        )
    if fault.where and fault.where not in presence.places:
        raise RobotError(f"fault {text!r}: WHERE: {nearest(fault.where, presence.places)}")
    with Session(name).writer("fault") as ring:
        record = ring.buffer()
        record["text"] = str(fault).encode()
        ring.write(record)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        presence = find_fake(robot, robot_id, domain)
        if presence is not None and str(fault) in presence.report.faults:
            return fault
        time.sleep(0.02)
    raise RobotError(f"the fake robot {name} did not take the fault {text!r}: is it stopped?")
