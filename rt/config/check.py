"""What must hold between the configuration's values; each contradiction names all of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rt.config.schema import JointGroup, Topic
from rt.config.words import Key, dotted, nearest
from rt.errors import ConfigError

if TYPE_CHECKING:
    from rt.config.config import Config

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
CAMERA_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")  # it becomes a part of a ring's name
CURRENT = "_cur/"  # a motor current: told by the original's files, read by nobody
# A tick takes a few tens of microseconds; and the last one must fit into the second in which a
# session has to end.
MIN_CONTROL_HZ, MAX_CONTROL_HZ = 2, 10_000


def check(config: Config) -> None:
    """Raise ConfigError for the first contradiction in `config`."""
    _check_robot(config)
    _check_dimensions(config)
    _check_timing(config)
    _check_cameras(config)
    _check_topics(config)
    _check_run(config)


def session_name_problem(name: str) -> str:
    """What is wrong with a session's name; empty if nothing is."""
    if NAME.fullmatch(name):
        return ""
    return (
        f"session name {name!r}: expected 1 to 64 letters, digits, _ or -; "
        "choose another with --session NAME"
    )


def _fail(config: Config, section: str, keys: Sequence[Key], complaint: str) -> ConfigError:
    return ConfigError(f"{_place(config, section, *keys)}: {complaint}")


def _place(config: Config, section: str, *keys: Key) -> str:
    """Where a value was given: `robot.yaml: joint_groups[2]`, or `--set robot.joint_groups[2]`."""
    name = dotted((section, *keys))
    for override in config.sources.overrides:
        if name == override or name.startswith((f"{override}.", f"{override}[")):
            return f"--set {name}"
    return f"{getattr(config.sources, section, 'command line')}: {dotted(keys)}"


def _check_robot(config: Config) -> None:
    robot = config.robot
    groups = [group.name for group in robot.joint_groups]
    for key, names in (("state_keys", robot.state_keys), ("joint_groups", groups)):
        if twice := _twice(names):
            raise _fail(config, "robot", [key], f"expected distinct names, got {twice!r} twice")
    if len(groups) != len(robot.state_keys):
        raise _fail(
            config,
            "robot",
            ["joint_groups"],
            f"expected one group for each of the {len(robot.state_keys)} state_keys, in their "
            f"order, got {len(groups)} groups ({', '.join(groups)})",
        )
    for index, group in enumerate(robot.joint_groups):
        _check_group(config, index, group)


def _check_group(config: Config, index: int, group: JointGroup) -> None:
    joints = group.joints
    at: list[Key] = ["joint_groups", index]
    if not joints:
        raise _fail(config, "robot", [*at, "lower_deg"], "expected at least one joint, got none")
    for key, values in (("upper_deg", group.upper_deg), ("initial_deg", group.initial_deg)):
        if values is not None and len(values) != joints:
            raise _fail(
                config,
                "robot",
                [*at, key],
                f"expected {joints} numbers, as many as lower_deg of {group.name}, "
                f"got {len(values)}",
            )
    for joint, (lower, upper) in enumerate(zip(group.lower_deg, group.upper_deg, strict=True)):
        if not lower < upper:
            raise _fail(
                config,
                "robot",
                [*at, "lower_deg", joint],
                f"expected less than upper_deg[{joint}] of {group.name}, {upper:g}, got {lower:g}",
            )
        if group.initial_deg is not None and not lower <= group.initial_deg[joint] <= upper:
            raise _fail(
                config,
                "robot",
                [*at, "initial_deg", joint],
                f"expected a pose within {group.name}'s limits {lower:g} to {upper:g}, "
                f"got {group.initial_deg[joint]:g}",
            )


def _check_dimensions(config: Config) -> None:
    joints = sum(group.joints for group in config.robot.joint_groups)
    for key in ("proprio_state_dim", "action_dim"):
        value = getattr(config.params, key)
        if value != joints:
            raise _fail(
                config,
                "params",
                [key],
                f"expected {joints}, the number of joints in "
                f"{_place(config, 'robot', 'joint_groups')}, got {value}",
            )


def _check_timing(config: Config) -> None:
    params = config.params
    if params.HZ != config.topics.HZ:
        raise _fail(
            config,
            "params",
            ["HZ"],
            f"expected the same rate as {_place(config, 'topics', 'HZ')}, which is "
            f"{config.topics.HZ:g}, got {params.HZ:g}: make them agree, or give both with "
            f"--set HZ={params.HZ:g}",
        )
    if not MIN_CONTROL_HZ <= config.control_hz <= MAX_CONTROL_HZ:
        raise _fail(
            config,
            "params",
            ["ticks_per_row"],
            f"expected {MIN_CONTROL_HZ} to {MAX_CONTROL_HZ} ticks a second (HZ x ticks_per_row), "
            f"got {params.HZ:g} x {params.ticks_per_row} = {config.control_hz:g}",
        )
    for key in ("min_num_actions_executed", "initial_delay"):
        if getattr(params, key) >= params.action_chunk_size:
            raise _fail(
                config,
                "params",
                [key],
                f"expected less than action_chunk_size, {params.action_chunk_size}, "
                f"got {getattr(params, key)}: lower it, e.g. --set "
                f"{key}={params.action_chunk_size // 2}",
            )


def _check_cameras(config: Config) -> None:
    for index, name in enumerate(config.params.camera_names):
        if not CAMERA_NAME.fullmatch(name):
            raise _fail(
                config,
                "params",
                ["camera_names", index],
                f"expected 1 to 32 letters, digits, _ or -, got {name!r}",
            )
    if twice := _twice(config.params.camera_names):
        complaint = f"expected distinct names, got {twice!r} twice"
        raise _fail(config, "params", ["camera_names"], complaint)
    if not config.run.opens_cameras:
        return
    for name in config.params.camera_names:
        if name not in config.robot.cameras:
            complaint = (
                f"expected a camera {name!r}, which {_place(config, 'params', 'camera_names')} "
                f"asks for, got {', '.join(config.robot.cameras) or 'none'}: add it with its "
                "source, width, height and fps"
            )
            raise _fail(config, "robot", ["cameras"], complaint)


def _check_topics(config: Config) -> None:
    topics = config.topics
    if not NAME.fullmatch(topics.robot_id):
        complaint = f"expected 1 to 64 letters, digits, _ or -, got {topics.robot_id!r}"
        raise _fail(config, "topics", ["robot_id"], complaint)
    joints = {key: part.stop - part.start for key, part in config.joint_slices.items()}
    _check_fields(config, "topics", topics.topics, joints)
    _check_fields(config, "commands", topics.commands, joints)


def _check_fields(
    config: Config, section: str, topics: dict[str, Topic], joints: dict[str, int]
) -> None:
    """Each state key at most once, in a slice of as many values as it has joints."""
    seen: dict[str, str] = {}
    for name, topic in topics.items():
        at = [section, name, "fields"]
        for key, field in topic.fields.items():
            if CURRENT in key:
                continue
            if key not in joints:
                complaint = f"unknown state key {key!r}: {nearest(key, joints)}"
                raise _fail(config, "topics", at, complaint)
            if key in seen:
                complaint = f"expected {key!r} in one topic, got it in {seen[key]} too"
                raise _fail(config, "topics", at, complaint)
            seen[key] = name
            start, end = field.slice
            if end - start != joints[key]:
                raise _fail(
                    config,
                    "topics",
                    [*at, key, "slice"],
                    f"expected [start, end] with end - start = {joints[key]}, the joints of that "
                    f"state key, got [{start}, {end}]",
                )


def _check_run(config: Config) -> None:
    run = config.run
    if problem := session_name_problem(run.session):
        raise ConfigError(problem)
    if run.duration_s is not None and run.duration_s <= 0:
        complaint = f"expected seconds > 0, got {run.duration_s:g}"
        raise _fail(config, "run", ["duration_s"], complaint)


def _twice(names: Sequence[str]) -> str | None:
    """A name that stands in `names` more than once."""
    return next((name for name in names if names.count(name) > 1), None)
