"""From a command line to a `Config`: find the robot's files, read them, apply what was given."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import NamedTuple

from msgspec import structs

from rt.config.config import Config
from rt.config.files import absolute, convert, is_file, read_mapping
from rt.config.overrides import Override, apply, parse_overrides
from rt.config.schema import (
    MAX_DOMAIN,
    RobotConfig,
    RunOptions,
    RuntimeParams,
    RuntimeTopics,
    Sources,
    Topic,
)
from rt.config.words import nearest
from rt.errors import ConfigError

PARAMS_FILE = "inference_runtime_params.json"
TOPICS_FILE = "inference_runtime_topics.json"


class Loaded(NamedTuple):
    """A configuration, and what its author should know about how it came about."""

    config: Config
    notes: tuple[str, ...]


def load_config(arguments: argparse.Namespace) -> Loaded:
    """The configuration of one run; `arguments` as `rt.launcher.options.parse` returns them.

    Priority: a flag of its own, then `--set`, then the files. Raises ConfigError naming the file
    or flag, the key, what was expected, what came and how to mend it.
    """
    folder = robot_folder(arguments.robot)
    overrides = parse_overrides(arguments.overrides)
    robot_path = folder / "robot.yaml"
    params_path = _given(arguments.inference_runtime_params_config, folder / PARAMS_FILE)
    topics_path = _given(arguments.inference_runtime_topics_config, folder / TOPICS_FILE)

    robot = apply(overrides, "robot", read_mapping(robot_path), RobotConfig, str(robot_path))
    params = apply(overrides, "params", read_mapping(params_path), RuntimeParams, str(params_path))
    topics = apply(overrides, "topics", read_mapping(topics_path), RuntimeTopics, str(topics_path))
    if robot.name != folder.name:
        raise ConfigError(
            f"{robot_path}: name: expected {folder.name!r}, its folder's name, got {robot.name!r}"
        )
    topics, notes = _fill(robot, topics, topics_path, folder / TOPICS_FILE)
    params = _with_norm_stats(params, params_path, overrides)
    if params.policy_update_period > params.action_chunk_size:
        notes.append(
            f"policy_update_period {params.policy_update_period} is longer than a chunk, "
            f"{params.action_chunk_size} rows: in sequential mode the robot holds in between"
        )
    config = Config(
        robot=robot,
        params=params,
        topics=topics,
        run=_run_options(arguments, overrides, robot, folder),
        sources=Sources(
            robot=str(robot_path),
            params=str(params_path),
            topics=str(topics_path),
            overrides=tuple(override.name for override in overrides),
        ),
    )
    return Loaded(config, tuple(notes))


def configs_folder() -> Path:
    """The shipped `configs/`: inside an installed package, else beside it in the repository."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_configs"
    return installed if installed.is_dir() else package.parent / "configs"


def robot_folder(name: str) -> Path:
    """The folder of a robot's files: one of configs/robots, or, with a slash in it, a path.

    Raises ConfigError listing the robots that there are.
    """
    if "/" in name:
        folder = absolute(name)
        if not is_file(folder / "robot.yaml"):
            raise ConfigError(f"--robot {name}: expected a folder with a robot.yaml, got none")
        return folder
    robots = configs_folder() / "robots"
    names = sorted(path.parent.name for path in robots.glob("*/robot.yaml"))
    if name not in names:
        here = any(path.parent.name == name for path in Path().glob("*/robot.yaml"))
        raise ConfigError(
            f"--robot {name}: unknown robot: "
            f"{f'did you mean ./{name}?' if here else nearest(name, names)} "
            f"(the folders of {robots} are {', '.join(names) or 'none'})"
        )
    return robots / name


def _default_policy(folder: Path, policy: str) -> str:
    beside = folder / policy
    return str(beside if is_file(beside) else configs_folder() / policy)


def _domain() -> int:
    """ROS_DOMAIN_ID, as ROS takes it: 0 when it is not set."""
    text = os.environ.get("ROS_DOMAIN_ID") or "0"
    if not text.isdecimal() or int(text) > MAX_DOMAIN:
        raise ConfigError(f"ROS_DOMAIN_ID: expected a number from 0 to {MAX_DOMAIN}, got {text!r}")
    return int(text)


def _given(path: str | None, default: Path) -> Path:
    return default if path is None else absolute(path)


def _run_options(
    arguments: argparse.Namespace,
    overrides: tuple[Override, ...],
    robot: RobotConfig,
    folder: Path,
) -> RunOptions:
    """The robot's defaults, then `--set`, then the flags that were given."""
    defaults = {
        "session": robot.name,
        "io": robot.io,
        "domain": _domain(),
        "policy_yaml_path": _default_policy(folder, robot.policy),
    }
    # A flag that stands at its own default was not given, and leaves the word to --set.
    flags = {
        "session": arguments.session,
        "algorithm": arguments.inference_algorithm,
        "io": arguments.io,
        "policy_yaml_path": arguments.policy_yaml_path,
        "duration_s": arguments.duration,
        "inject_delay_ms": arguments.inject_delay_ms or None,
        "dry_run": arguments.dry_run or None,
        "require_rt": arguments.require_rt or None,
        "record": arguments.record and str(absolute(arguments.record)),
        "yes": arguments.yes or None,
    }
    given = {key: value for key, value in flags.items() if value is not None}
    run = apply(overrides, "run", defaults, RunOptions, "command line")
    run = convert(structs.asdict(run) | given, RunOptions, "command line")
    unasked = run.policy_yaml_path == defaults["policy_yaml_path"]
    if unasked and not is_file(Path(run.policy_yaml_path)):
        raise ConfigError(
            f"{folder / 'robot.yaml'}: policy: expected a file beside it or in {configs_folder()}, "
            f"but nothing is at {robot.policy!r}; or give one with -P"
        )
    return structs.replace(run, policy_yaml_path=str(absolute(run.policy_yaml_path)))


def _with_norm_stats(
    params: RuntimeParams, path: Path, overrides: tuple[Override, ...]
) -> RuntimeParams:
    """`params` with `norm_stats_file_path` absolute: a file's is relative to that file."""
    key = "norm_stats_file_path"
    if not params.norm_stats_file_path:
        return params
    by_flag = any(override.name == f"params.{key}" for override in overrides)
    stats = (Path.cwd() if by_flag else path.parent) / params.norm_stats_file_path
    if not is_file(stats):
        place = f"--set params.{key}" if by_flag else f"{path}: {key}"
        raise ConfigError(
            f'{place}: expected a file, but nothing is at {stats}; "" takes the policy\'s own'
        )
    return structs.replace(params, norm_stats_file_path=str(absolute(str(stats))))


def _fill(
    robot: RobotConfig, topics: RuntimeTopics, path: Path, default_path: Path
) -> tuple[RuntimeTopics, list[str]]:
    """`topics` with the commands and the state keys that it lacks taken from the robot's own file.

    A robot's older topics file names no commands, and perhaps the arms only; the policy needs the
    whole state. The note says which state keys.
    """
    default = convert(read_mapping(default_path), RuntimeTopics, default_path)

    def of_this_robot(topic: Topic) -> Topic:
        address = topic.topic.replace(f"/{default.robot_id}/", f"/{topics.robot_id}/")
        return structs.replace(topic, topic=address)

    commands = {name: of_this_robot(topic) for name, topic in default.commands.items()}
    topics = structs.replace(topics, commands=topics.commands or commands)
    found = {key for topic in topics.topics.values() for key in topic.fields}
    missing = [key for key in robot.state_keys if key not in found]
    if not missing or not default.topics:  # a robot that speaks no ROS messages has none
        return topics, []
    filled = dict(topics.topics)
    for name, topic in default.topics.items():
        fields = {key: field for key, field in topic.fields.items() if key in missing}
        if fields:
            unused = name if name not in filled else f"{name}.default"
            filled[unused] = structs.replace(of_this_robot(topic), fields=fields)
            missing = [key for key in missing if key not in fields]
    if missing:
        raise ConfigError(
            f"{path}: topics: expected a field for each of robot.yaml's state_keys, got none for "
            f"{', '.join(missing)}: add them"
        )
    added = ", ".join(key for key in robot.state_keys if key not in found)
    return structs.replace(topics, topics=filled), [
        f"{path} names no topic for {added}: taken from {default_path}"
    ]
