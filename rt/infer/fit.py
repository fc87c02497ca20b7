"""Whether a policy fits this robot: what it was trained for, its dims, its statistics.

Its YAML is asked before anything starts; the policy itself once it is built, because one on another
machine tells of itself only then. Control starts later still: nothing has moved.
"""

from __future__ import annotations

from collections.abc import Mapping

from rt.config import Config
from rt.errors import ConfigError
from rt.infer.policy import Policy
from rt.infer.policy_config import RobotKind, declared_dims, load_policy_config
from rt.infer.statistics_check import check_statistics


def check_yaml(config: Config) -> None:
    """Raises ConfigError for a policy whose YAML says that it is not for this robot."""
    policy = load_policy_config(config.run.policy_yaml_path)
    _check_trained_for(policy.trained_for, config)
    for component, dims in declared_dims(policy).items():
        _check_dims(dims, config, f"{policy.component_paths[component]}: params")


def check(policy: Policy, config: Config) -> None:
    """Raises ConfigError for a policy that says so itself, in `trained_for`, `dims`, `statistics`
    or `deadline_s`."""
    path = config.run.policy_yaml_path
    _check_trained_for(getattr(policy, "trained_for", None), config)
    _check_dims(getattr(policy, "dims", {}), config, f"{getattr(policy, 'described', path)}: dims")
    statistics = getattr(policy, "statistics", None)
    if statistics is not None:
        check_statistics(statistics, config, f"{path}: statistics")
    deadline_s, timeout_s = getattr(policy, "deadline_s", 0.0), config.params.inference_timeout_s
    if 2 * deadline_s >= timeout_s:
        raise ConfigError(
            f"{path}: a call may take {deadline_s:g} s: expected less than half of "
            "inference_timeout_s, after which an inference counts as stalled, got "
            f"{timeout_s:g} s: lower the policy's deadline, or raise inference_timeout_s"
        )


def _check_trained_for(trained_for: tuple[RobotKind, ...] | None, config: Config) -> None:
    where: RobotKind = "real" if config.run.real else "sim"
    if trained_for is None or where in trained_for or config.run.fake:
        return
    topics, run = config.topics, config.run
    or_a_fake = (
        f", or start the fake robot first (none runs with robot_id {topics.robot_id} in DDS "
        f"domain {run.domain}): python -m rt.robots.fake --robot {config.robot.name}"
    )
    raise ConfigError(
        f"{run.policy_yaml_path}: trained_for: expected a policy that was trained for a {where} "
        f"robot, which --io {run.io} means, got one trained for {', '.join(trained_for)}: take "
        "another with -P" + (or_a_fake if config.may_be_faked else "")
    )


def _check_dims(dims: Mapping[str, int], config: Config, place: str) -> None:
    params = config.params
    expected = {
        "action_dim": params.action_dim,
        "action_horizon": params.action_chunk_size,
        "state_dim": params.proprio_state_dim,
        "proprio_history_size": params.proprio_history_size,
        "num_img_obs": params.num_img_obs,
    }
    for name, ours in expected.items():
        if (theirs := dims.get(name, ours)) != ours:
            raise ConfigError(
                f"{place}.{name}: the model has {theirs}, but {config.sources.params} asks for "
                f"{ours}: make them agree, or take another policy with -P"
            )
