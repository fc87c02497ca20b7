"""Configurations without files."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from typing import Any

from rt.config import (
    Config,
    ImageSize,
    JointGroup,
    RobotConfig,
    RunOptions,
    RuntimeParams,
    RuntimeTopics,
)
from rt.config.words import nearest
from rt.errors import ConfigError

_count = itertools.count()

WIDE_OPEN = JointGroup(name="arm", lower_deg=(-1e9, -1e9), upper_deg=(1e9, 1e9), max_delta_deg=1e9)
"""Two joints that no limit touches: what is sent is what the policy wanted."""

TWO_ARMS = (
    JointGroup(
        name="left_arm",
        lower_deg=(-90, -100, -90, -10, -120, -60),
        upper_deg=(90, 20, 90, 135, 120, 60),
        initial_deg=(-20, -30, 0, 120, 0, 0),
    ),
    JointGroup(
        name="right_arm",
        lower_deg=(-90, -20, -90, -135, -120, -60),
        upper_deg=(90, 100, 90, 10, 120, 60),
        initial_deg=(20, 30, 0, -120, 0, 0),
    ),
    JointGroup(name="left_hand", lower_deg=(0,) * 6, upper_deg=(90,) * 6, max_delta_deg=10),
    JointGroup(name="right_hand", lower_deg=(0,) * 6, upper_deg=(90,) * 6, max_delta_deg=10),
)
"""24 joints like IGRIS_B's: arms with an initial pose, hands that stay where they are."""


def config(joint_groups: Sequence[JointGroup] = (WIDE_OPEN,), **overrides: Any) -> Config:
    """A valid configuration without files: H = 8, s_min = 4, 20 Hz, no cameras, no episode end.

    `overrides` are fields of RuntimeParams, RobotConfig and RunOptions, by their bare names.
    Raises ConfigError for an unknown name or a contradiction.
    """
    joints = sum(len(group.lower_deg) for group in joint_groups)
    values: dict[str, Any] = {
        "HZ": 20.0,
        "max_delta_deg": 5.0,
        "policy_update_period": 4,
        "mono_image_resize": ImageSize(width=8, height=6),
        "camera_names": (),
        "proprio_state_dim": joints,
        "action_dim": joints,
        "action_chunk_size": 8,
        "min_num_actions_executed": 4,
        "initial_delay": 2,
        "episode_ticks": 0,
        "warmup_ticks": 0,
        "name": "fake",
        "policy": "policies/fake/policy.yaml",
        "state_keys": tuple(f"/observation/joint_pos/{group.name}" for group in joint_groups),
        "joint_groups": tuple(joint_groups),
        "session": f"fake-{os.getpid()}-{next(_count)}",
        "policy_yaml_path": "policies/fake/policy.yaml",
    }
    kinds = (RuntimeParams, RobotConfig, RunOptions)
    known = {field for kind in kinds for field in kind.__struct_fields__}
    for name in overrides.keys() - known:
        raise ConfigError(f"config(): unknown field {name!r}: {nearest(name, known)}")
    values |= overrides
    params, robot, run = (
        {name: values[name] for name in kind.__struct_fields__ if name in values} for kind in kinds
    )
    return Config(
        robot=RobotConfig(**robot),
        params=RuntimeParams(**params),
        topics=RuntimeTopics(robot_id="fake", HZ=values["HZ"], topics={}),
        run=RunOptions(**run),
    )
