"""The configuration of a session: read once, cross-checked, then handed to every process as JSON.

Files and people speak degrees and policy rows (`rt.config.schema`); `Config`'s properties speak
radians and ticks. `rt.config.load` reads the files, `rt.config.check` does the cross-checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
import numpy as np

from rt.arrays import Vector
from rt.config.check import check
from rt.config.schema import (
    ALGORITHM_PARAMS,
    JointGroup,
    RobotConfig,
    RunOptions,
    RuntimeParams,
    RuntimeTopics,
    Sources,
)
from rt.errors import ConfigError

FAKED = ("dds", "ros2")  # what a fake robot speaks


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that a process of a session needs to know.

    Raises ConfigError when the parts contradict each other. A is `action_dim`; every vector is
    (A,) float64 in the order of `robot.state_keys`.
    """

    robot: RobotConfig
    params: RuntimeParams
    topics: RuntimeTopics
    run: RunOptions
    sources: Sources = Sources()

    def __post_init__(self) -> None:
        check(self)

    @property
    def control_hz(self) -> float:
        """Ticks per second."""
        return self.params.HZ * self.params.ticks_per_row

    @property
    def period_ns(self) -> int:
        """From one tick to the next, ns."""
        return round(1e9 / self.control_hz)

    @property
    def gated(self) -> bool:
        """Whether the robot stands still until the operator's `go`; in a dry run it does anyway."""
        return self.run.real and not (self.run.yes or self.run.dry_run)

    @property
    def may_be_faked(self) -> bool:
        """Whether a fake robot can answer in the real one's place."""
        return self.run.io in FAKED and not self.robot.driver

    @property
    def algorithm_params(self) -> dict[str, int | float | str]:
        """The chosen algorithm's own params."""
        names = ALGORITHM_PARAMS.get(self.run.algorithm, ())
        return {name: getattr(self.params, name) for name in names}

    @property
    def joint_slices(self) -> dict[str, slice]:
        """State key → where its joints lie in a vector (A,)."""
        slices, start = {}, 0
        for key, group in zip(self.robot.state_keys, self.robot.joint_groups, strict=True):
            slices[key] = slice(start, start + group.joints)
            start += group.joints
        return slices

    @property
    def joint_names(self) -> tuple[str, ...]:
        """(A,) what to call each joint: its group's name and its place there, `right_arm[3]`."""
        return tuple(f"{g.name}[{i}]" for g in self.robot.joint_groups for i in range(g.joints))

    @property
    def lower_rad(self) -> Vector:
        """(A,) lowest positions, rad."""
        return _radians(x for group in self.robot.joint_groups for x in group.lower_deg)

    @property
    def upper_rad(self) -> Vector:
        """(A,) highest positions, rad."""
        return _radians(x for group in self.robot.joint_groups for x in group.upper_deg)

    @property
    def initial_rad(self) -> Vector:
        """(A,) initial pose, rad; NaN where a joint stays where it was measured."""
        stay = float("nan")
        return _radians(
            x
            for group in self.robot.joint_groups
            for x in group.initial_deg or [stay] * group.joints
        )

    @property
    def max_delta_rad_per_tick(self) -> Vector:
        """(A,) slew limits, rad per tick: the configured limit per row over `ticks_per_row`, and
        no more than `max_speed_deg_s` allows."""
        per_row = self._per_joint(
            lambda group: min(
                group.max_delta_deg or self.params.max_delta_deg,
                (group.max_speed_deg_s or np.inf) / self.params.HZ,
            )
        )
        return per_row / self.params.ticks_per_row

    @property
    def max_acceleration_rad_per_tick2(self) -> Vector:
        """(A,) how much the step may differ from the step before, rad per tick per tick; inf:
        at will."""
        per_s2 = self._per_joint(lambda group: group.max_acceleration_deg_s2 or np.inf)
        return per_s2 / self.control_hz**2

    @property
    def max_following_error_rad(self) -> Vector:
        """(A,) how far a joint may be measured from its command, rad; inf: not watched."""
        default = self.robot.max_following_error_deg or np.inf
        return self._per_joint(lambda group: group.max_following_error_deg or default)

    @property
    def initial_delta_rad_per_tick(self) -> Vector:
        """(A,) the way to the initial pose, rad per tick: `initial_speed_deg_s`, slew-limited."""
        speed = np.deg2rad(self.robot.initial_speed_deg_s / self.control_hz)
        return np.minimum(speed, self.max_delta_rad_per_tick)

    def _per_joint(self, degrees: Callable[[JointGroup], float]) -> Vector:
        """(A,) rad: one value per group, given to each of its joints."""
        groups = self.robot.joint_groups
        return _radians(degrees(group) for group in groups for _ in range(group.joints))


def encode_config(config: Config) -> bytes:
    """The configuration as JSON, for another process."""
    return msgspec.json.encode(config)


def decode_config(encoded: bytes) -> Config:
    """What `encode_config` encoded. Raises ConfigError when it is anything else."""
    try:
        return msgspec.json.decode(encoded, type=Config)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigError(f"expected a session's configuration as JSON: {error}") from None


def _radians(degrees: Iterable[float]) -> Vector:
    return np.deg2rad(np.fromiter(degrees, np.float64))
