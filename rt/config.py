"""Configuration: frozen structs, read once, cross-checked, then handed to every process as JSON."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Positive = Annotated[int, Meta(gt=0)]
NonNegative = Annotated[int, Meta(ge=0)]

Io = Literal["sim", "ros2", "dds"]
Algorithm = Literal["rtc", "sequential"]


class ImageSize(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pixels of one observation image."""

    width: Positive
    height: Positive


class RuntimeParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`inference_runtime_params.json`: timing, dimensions, cameras and RTC."""

    HZ: Annotated[float, Meta(gt=0)]  # policy rows per second
    max_delta_deg: Annotated[float, Meta(gt=0)]  # slew limit per row, for groups without their own
    policy_update_period: Positive  # rows between plans, sequential mode
    mono_image_resize: ImageSize
    camera_names: tuple[str, ...]
    proprio_state_dim: Positive
    action_dim: Positive
    action_chunk_size: Positive  # H
    proprio_history_size: Positive = 1
    num_img_obs: Positive = 1
    img_obs_every: Positive = 1
    norm_stats_file_path: str = ""  # "": the policy's own, else none

    ticks_per_row: Positive = 1
    min_num_actions_executed: Positive = 25  # s_min
    initial_delay: NonNegative = 5  # rows; d before the first delay has been counted
    delay_window: Positive = 10  # counted delays that d is the maximum of
    schedule: Literal["exp", "linear", "ones", "zeros"] = "exp"
    max_guidance_weight: Annotated[float, Meta(gt=0)] = 5.0  # beta
    vjp: bool = True  # False: the identity in place of the Jacobian
    episode_ticks: NonNegative = 1200  # an episode's length in rows; 0: no end
    max_age_ms: Positive = 500  # an older frame is no frame: inference waits
    inference_timeout_s: Annotated[float, Meta(gt=0)] = 10.0


class TopicField(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where in a message one state key lies."""

    slice: tuple[NonNegative, NonNegative]
    attr: str


class Topic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One subscribed topic."""

    topic: str
    msg_type: str
    fields: dict[str, TopicField]


class RuntimeTopics(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`inference_runtime_topics.json`: which message fields make up the state."""

    robot_id: str
    HZ: Annotated[float, Meta(gt=0)]
    topics: dict[str, Topic]


class JointGroup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run of consecutive joints with their limits, in degrees."""

    name: str
    lower_deg: tuple[float, ...]
    upper_deg: tuple[float, ...]
    initial_deg: tuple[float, ...] | None = None  # None: stay where measured
    max_delta_deg: Annotated[float, Meta(gt=0)] | None = None  # per row; None: RuntimeParams'


class Realtime(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the control process asks of the kernel."""

    priority: Annotated[int, Meta(ge=1, le=98)] = 45
    cpu: int | Literal["last", "none"] = "last"
    spin_us: NonNegative = 0


class RobotConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`robot.yaml`: the robot's facts."""

    name: str
    io: Io = "sim"
    policy: str  # default policy YAML, relative to configs/
    state_keys: tuple[str, ...]
    joint_groups: tuple[JointGroup, ...]  # one per state key, same order
    initial_speed_deg: Annotated[float, Meta(gt=0)] = 30.0  # per second
    max_state_age_ms: Positive = 200
    realtime: Realtime = Realtime()


class RunOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the command line adds for one run."""

    session: str
    algorithm: Algorithm = "rtc"
    io: Io = "sim"
    policy_yaml_path: str
    duration_s: float | None = None
    inject_delay_ms: NonNegative = 0
    dry_run: bool = False
    require_rt: bool = False


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that a process of a session needs to know."""

    robot: RobotConfig
    params: RuntimeParams
    topics: RuntimeTopics
    run: RunOptions
