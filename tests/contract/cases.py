"""Every backend of every robot, each with the robot's end of its wire as a process.

What joint of which message is which of ours is written out here anew, not read from the files that
the drivers read.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from dds_env import fresh_domain, fresh_robot_id
from launched import SHM, segments, unique_session, until
from msgspec import structs

from rt import clock
from rt.config import Config
from rt.config.load import load_config
from rt.launcher.options import parse
from rt.robots.robot import Robot, State, find_backend, open_robot, resolve
from rt.session import Session

SIDE = Path(__file__).with_name("side.py")
NONE = slice(0, 0)
Spec = Callable[[Config], dict[str, Any]]


class Case(NamedTuple):
    """One backend of one robot."""

    robot: str  # --robot; a robot of the guide begins with ./
    io: str
    side: str  # a kind of side.py
    spec: Spec  # its spec
    missing: str  # what an error of the start says when the robot is not there; "": no error
    single_state: slice = NONE  # joints that are float32 on the wire
    single_command: slice = NONE
    package: str = ""  # that the backend imports

    @property
    def name(self) -> str:
        return f"{Path(self.robot).name}-{self.io}"


def _rings(config: Config) -> dict[str, Any]:
    return {"session": config.run.session}


def _igris_b(config: Config) -> dict[str, Any]:
    """The wire is right first, then left; ours is left first."""
    at = f"/igris_b/{config.topics.robot_id}"
    arms, hands = ([*range(b + 6, b + 12), *range(b, b + 6)] for b in (0, 12))
    return {
        "domain": config.run.domain,
        "states": [
            [f"{at}/joint_states", "JointState", arms, []],
            [f"{at}/finger_state", "Float32MultiArray", hands, []],
        ],
        "commands": [
            [f"{at}/target_joints", "JointState", arms, []],
            [f"{at}/finger_target", "Float32MultiArray", hands, []],
        ],
    }


def _igris_c(config: Config) -> dict[str, Any]:
    """Joint space: arms and neck are the last 16."""
    return {"domain": config.run.domain, "indices": [*range(15, 31)], "mode": 1}


def _seven_ros(config: Config) -> dict[str, Any]:
    at = f"/{config.topics.robot_id}"
    names = ["grip", "j1", "j2", "j3", "j4", "j5", "j6"]
    return {
        "domain": config.run.domain,
        "states": [[f"{at}/joint_states", "JointState", [6, *range(6)], names]],
        "commands": [
            [f"{at}/arm_target", "JointState", [*range(6)], []],
            [f"{at}/gripper_target", "Float32MultiArray", [6], []],
        ],
    }


def _seven(config: Config) -> dict[str, Any]:
    return {key: config.robot.options[key] for key in ("port", "listen")}


ALL, HANDS, GRIPPER = slice(None), slice(12, 24), slice(6, 7)
CASES = (
    Case("igris_b", "sim", "rings", _rings, ""),
    Case(
        *("igris_b", "dds", "topics", _igris_b, "nobody publishes"),
        *(HANDS, HANDS, "cyclonedds"),
    ),
    Case(
        *("igris_b", "ros2", "topics", _igris_b, "nobody publishes"),
        *(HANDS, HANDS, "rclpy"),
    ),
    Case(
        *("./seven_ros", "dds", "topics", _seven_ros, "nobody publishes"),
        *(NONE, GRIPPER, "cyclonedds"),
    ),
    Case(*("igris_c", "dds", "igris_c", _igris_c, "nobody publishes"), *(ALL, ALL, "cyclonedds")),
    Case("./seven", "udp", "udp", _seven, "no state came to UDP port"),
)


class Rig:
    """A case's robot and its other end. Use as a context manager: nothing of it is left."""

    def __init__(self, case: Case, guide: Path, **facts: Any) -> None:
        """`facts` replace those of the robot.yaml."""
        self.case = case
        robot = case.robot.replace("./", f"{guide}/")
        loaded = load_config(parse(["--robot", robot, "--io", case.io])).config
        if case.side == "udp":
            facts["options"] = {"host": "127.0.0.1"} | dict(
                zip(("port", "listen"), free_ports(2), strict=True)
            )
        config = structs.replace(
            loaded,
            robot=structs.replace(loaded.robot, **facts),
            topics=structs.replace(loaded.topics, robot_id=fresh_robot_id()),
            run=structs.replace(
                loaded.run,
                session=unique_session(case.name),
                domain=fresh_domain(),
                fake="the contract",  # DDS stays on loopback
            ),
        )
        self.config = config
        self.session = Session(config.run.session)
        backend = find_backend(config)
        if backend.rings:
            self.session.create(resolve(backend.rings, config)(config))
        self._side: subprocess.Popen[bytes] | None = None
        # Of the robot's end; a file, since a pipe that is full would stop it.
        self._log = tempfile.NamedTemporaryFile()  # noqa: SIM115
        self._said = b""
        self._robot: Robot | None = None
        self.commands: list[list[float | None]] = []  # that reached the robot
        self.matched = False
        self.published = 0

    @property
    def joints(self) -> int:
        return self.config.params.action_dim

    def open(self) -> Robot:
        """The driver, not started."""
        self._robot = open_robot(self.config, self.session)
        return self._robot

    def start_robot(self, position: np.ndarray[Any, Any]) -> None:
        """Begin to play the robot, at `position`."""
        spec = self.case.spec(self.config) | {"joints": self.joints}
        self.matched, self.published = False, 0
        self._said = b""
        self._log.truncate(0)
        self._log.seek(0)
        output = os.open(self._log.name, os.O_WRONLY | os.O_APPEND)
        self._side = subprocess.Popen(
            [sys.executable, str(SIDE), self.case.side, json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=output,
        )
        os.close(output)
        self.tell(position=position.tolist())

    def kill_robot(self) -> None:
        """As its power switch does."""
        if self._side:
            self._side.kill()
            self._side.communicate()
        self._side = None

    def freeze_robot(self) -> int:
        """Returns a time after which it has published nothing."""
        assert self._side
        self._side.send_signal(signal.SIGSTOP)
        stat = Path(f"/proc/{self._side.pid}/stat")
        until("the robot to freeze", lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
        return clock.now_ns()

    def tell(self, **what: Any) -> None:
        """Tell the robot where to be, or to follow."""
        assert self._side
        assert self._side.stdin
        self._side.stdin.write(json.dumps(what).encode() + b"\n")
        self._side.stdin.flush()

    def listen(self) -> None:
        """Take in what the robot's end has said."""
        assert self._side
        assert self._side.poll() is None
        self._said += self._log.read()
        *lines, self._said = self._said.split(b"\n")
        for line in map(json.loads, lines):
            self.matched |= line.get("matched", False)
            self.published = line.get("published", self.published)
            if "command" in line:
                self.commands.append(line["command"])

    def until(self, what: str, true: Callable[[], object]) -> None:
        """Listen until something holds."""

        def look() -> object:
            self.listen()
            return true()

        until(f"{self.case.name}: {what}", look)

    def wait_for_more(self, messages: int) -> None:
        """Return once the robot has published so many more."""
        self.listen()
        enough = self.published + messages
        self.until(f"{messages} more messages", lambda: self.published >= enough)

    def read_until(self, what: str, robot: Robot, true: Callable[[State], object]) -> State:
        """The first state of which `true` holds."""

        def look() -> State | None:
            state = robot.read_state()
            return state if true(state) else None

        found: State = until(f"{self.case.name}: {what}", look)
        return found

    def measured(self, position: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """`position` as the wire brings it."""
        return _rounded(position, self.case.single_state)

    def sent(self, action: np.ndarray[Any, Any]) -> list[float]:
        """`action` as the wire brings it."""
        sent: list[float] = _rounded(action, self.case.single_command).tolist()
        return sent

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_robot()
        if self._robot:
            with contextlib.suppress(Exception):  # most tests have done so
                self._robot.shutdown()
        self._log.close()
        for name in segments(self.session.name):
            (SHM / name).unlink(missing_ok=True)


def now_and_then(rig: Rig, robot: Robot, count: int) -> list[int]:
    """`count` different times of capture, in the order in which they were read."""
    captures: list[int] = []

    def look() -> bool:
        state = robot.read_state()
        assert state.t_capture <= clock.now_ns()
        if not captures or state.t_capture != captures[-1]:
            captures.append(state.t_capture)
        return len(captures) == count

    until(f"{rig.case.name}: {count} states", look)
    return captures


def _rounded(vector: np.ndarray[Any, Any], single: slice) -> np.ndarray[Any, Any]:
    rounded = vector.copy()
    rounded[single] = vector[single].astype(np.float32)
    return rounded


def free_ports(count: int) -> list[int]:
    """UDP ports that nobody has now."""
    with contextlib.ExitStack() as held:
        sockets = [
            held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            for _ in range(count)
        ]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
