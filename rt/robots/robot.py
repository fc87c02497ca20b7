"""What control asks of a robot, and how a robot's backend is found by name.

A robot is a package `rt.robots.<name>` with `BACKENDS: dict[str, Backend]`, one per `--io`. Only
the chosen one is imported.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from rt.arrays import Vector
from rt.errors import MissingPackageError, RobotError

if TYPE_CHECKING:
    from rt.config import Config
    from rt.session import Session


class Robot(Protocol):
    """A robot, seen from the control process. No method may block or start a thread, but `connect`.

    A method may raise: control counts it as a fault and holds.
    """

    def connect(self) -> None:
        """Open the robot, start whatever threads its driver needs. Before SCHED_FIFO."""

    def read(self, position: Vector) -> int:
        """Write the newest measured joint positions (S,) rad to `position`.

        Returns when they were measured, ns on CLOCK_MONOTONIC; 0 if nothing has come yet.
        """

    def send(self, command: Vector) -> None:
        """Command joint positions (A,) rad, already limited."""

    def hold(self, command: Vector) -> None:
        """Stay still. A position-controlled robot is sent its last `command` again."""

    def prepare_episode(self) -> None:
        """The robot is at its initial pose and about to start an episode: make the scene ready."""

    def succeeded(self) -> bool:
        """Whether the robot itself knows that this episode's task is done."""

    def shutdown(self) -> None:
        """Leave the robot safe. Called once, after the last tick."""


class Backend(msgspec.Struct, frozen=True):
    """One way to reach a robot."""

    robot: str  # "module:Class", called as Class(config, session)
    processes: dict[str, str] = {}  # name → module run beside control, e.g. the simulator
    rings: str = ""  # "module:function", called as function(config) → name → (dtype, slots)
    extra: str = ""  # the extra that installs `packages`
    packages: tuple[str, ...] = ()  # what it imports beyond this package's own dependencies


def resolve(path: str) -> Callable[..., Any]:
    """`module:name` → the object."""
    module, _, name = path.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def find_backend(robot: str, io: str) -> Backend:
    """The backend of `robot` for `io`.

    Raises RobotError when there is none, MissingPackageError when its extra is not installed.
    """
    try:
        backends: dict[str, Backend] = importlib.import_module(f"rt.robots.{robot}").BACKENDS
    except ModuleNotFoundError as error:
        if error.name != f"rt.robots.{robot}":
            raise
        backends = {}
    if io not in backends:
        raise RobotError(
            f"robot {robot!r} has no backend for --io {io} in this version: "
            f"expected one of {', '.join(sorted(backends)) or 'none'}"
        )
    backend = backends[io]
    missing = [name for name in backend.packages if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPackageError(
            f"--io {io} needs {' and '.join(missing)}: in the project's folder, "
            f"pip install -e '.[{backend.extra}]'"
        )
    return backend


def open_robot(config: Config, session: Session) -> Robot:
    """The session's robot, not yet connected."""
    backend = find_backend(config.robot.name, config.run.io)
    robot: Robot = resolve(backend.robot)(config, session)
    return robot
