"""What control asks of a robot, and how a robot's driver is found.

A robot's driver is a module with `BACKENDS: dict[str, Backend]`, one per `--io`. Only the chosen
one is imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import msgspec

from rt.arrays import Vector
from rt.config.files import is_file
from rt.errors import ConfigError, MissingPackageError, RobotError

if TYPE_CHECKING:
    from types import ModuleType

    from rt.config import Config
    from rt.session import Session


class State(NamedTuple):
    """One look at the robot."""

    position: Vector  # (S,) rad; the driver's own, until the next look
    t_capture: int  # when it was measured, ns on CLOCK_MONOTONIC; of several readings the oldest.
    # 0: not all have come yet
    fault: str = ""  # what the robot says is wrong with it; control holds
    late: str = ""  # which reading is missing or oldest, and why; told when it is too old


class Robot(Protocol):
    """A robot, seen from the control process. It has no thread of Python's.

    A method may raise: control counts it as a fault and holds.
    """

    def start_state_readers(self) -> None:
        """Open the robot and wait, up to `state_timeout_s`, for its first state.

        Called before SCHED_FIFO: whatever threads the driver's library needs run by its end, and
        here alone a driver may block. Raises RobotError naming what did not come, and what did.
        """

    def read_state(self) -> State:
        """The newest state, at once."""

    def publish_action(self, action: Vector) -> None:
        """Command joint positions (A,) rad, already limited."""

    def init_robot_position(self) -> Vector:
        """The pose (A,) rad that an episode begins at; NaN: a joint stays where it is measured.

        Control goes there under the limits.
        """

    def hold(self) -> None:
        """Stay still. A position-controlled robot is sent its last action again.

        Called while the state is missing, too. A robot that keeps its target by itself is then
        better told nothing: it may have been restarted, and come back somewhere else.
        """

    def shutdown(self) -> None:
        """Leave the robot safe. Called once, after the last tick or a failed start."""


@runtime_checkable
class Task(Protocol):
    """What a robot may know beyond itself, as the simulated one does: the task of the episode."""

    def prepare_episode(self) -> None:
        """The robot is at its initial pose and about to start an episode: make the scene ready."""

    def succeeded(self) -> bool:
        """Whether this episode's task is done."""


@runtime_checkable
class SafeStop(Protocol):
    """A robot that can be brought to rest after its control process was killed."""

    def safe_stop(self) -> None:
        """Bring the robot to rest within `safe_stop_s`; blocks. Nothing else commands it now."""


class Backend(msgspec.Struct, frozen=True):
    """One way to reach a robot. What is named `module:name` may leave out its own module."""

    robot: str  # "module:Class", called as Class(config, session)
    check: str = ""  # "module:function", called as function(config): raises ConfigError
    processes: dict[str, str] = {}  # name → module run beside control, e.g. the simulator
    rings: str = ""  # "module:function", called as function(config) → name → (dtype, slots)
    packages: tuple[str, ...] = ()  # what it imports beyond this package's own dependencies
    extra: str = ""  # the extra of ours that installs them
    remedy: str = ""  # how else to get them


def choose_backend(config: Config) -> Backend:
    """The backend of the session's robot for its `--io`, whether it can run here or not.

    Raises ConfigError for a driver that is not there, RobotError when it has no such backend.
    """
    io = config.run.io
    backends: dict[str, Backend] | None = getattr(_driver(config), "BACKENDS", None)
    if backends is None:
        raise ConfigError(
            f"{config.sources.robot}: driver: expected a module that defines BACKENDS, got "
            f"{config.robot.driver!r}, which does not: docs/add_a_robot.md"
        )
    if io not in backends:
        raise RobotError(
            f"robot {config.robot.name!r} has no backend for --io {io}: "
            f"expected --io {' or --io '.join(sorted(backends))}"
        )
    return backends[io]


def find_backend(config: Config) -> Backend:
    """The backend of the session's robot for its `--io`.

    Raises what `choose_backend` does, and MissingPackageError for a package that is not installed.
    """
    backend, io = choose_backend(config), config.run.io
    missing = [name for name in backend.packages if importlib.util.find_spec(name) is None]
    if missing:
        ours = f"in the project's folder, pip install -e '.[{backend.extra}]'"
        remedy = ours if backend.extra else backend.remedy or "install it"
        raise MissingPackageError(f"--io {io} needs {' and '.join(missing)}: {remedy}")
    return backend


def open_robot(config: Config, session: Session) -> Robot:
    """The session's robot, not yet started.

    Raises ConfigError when a safe stop is asked of a driver that has none.
    """
    robot: Robot = resolve(find_backend(config).robot, config)(config, session)
    if config.run.real and config.robot.safe_stop_s and not isinstance(robot, SafeStop):
        raise ConfigError(
            f"{config.sources.robot}: safe_stop_s: expected 0, since the driver of "
            f"{config.robot.name} has no safe_stop(), got {config.robot.safe_stop_s:g}"
        )
    return robot


def resolve(path: str, config: Config) -> Callable[..., Any]:
    """`module:name`, or `:name` in the robot's driver → the object."""
    module, _, name = path.partition(":")
    holder = importlib.import_module(module) if module else _driver(config)
    found: Callable[..., Any] = getattr(holder, name)
    return found


def _driver(config: Config) -> ModuleType:
    """The module that `robot.yaml` names as driver, imported once."""
    name = config.robot.driver or f"rt.robots.{config.robot.name}"
    place = f"{config.sources.robot}: driver"
    if name.endswith(".py"):
        return _load_file(Path(config.sources.robot).parent / name, place)
    try:
        if not all(map(str.isidentifier, name.split("."))):
            raise ModuleNotFoundError(name=name)
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise ConfigError(
            f"{place}: expected a Python module or a .py file, but there is no {name!r}: "
            "name the module of the robot's driver, e.g. driver: rt.robots.topics"
        ) from None


def _load_file(path: Path, place: str) -> ModuleType:
    name = f"rt_driver_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not is_file(path):
        raise ConfigError(f"{place}: expected a file, but nothing is at {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
