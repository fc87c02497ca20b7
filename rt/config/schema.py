"""What may stand in the configuration files and on the command line: frozen structs, in degrees and
policy rows, as people write them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Positive = Annotated[int, Meta(gt=0, le=1_000_000)]
NonNegative = Annotated[int, Meta(ge=0, le=1_000_000)]
MAX_DOMAIN = 232  # beyond, DDS has no ports
Degrees = Annotated[float, Meta(gt=0)]
Milliseconds = Annotated[float, Meta(ge=0, le=10_000)]

# How the robot is reached: a key of its driver's BACKENDS. All but "sim" move a real one.
Io = Annotated[str, Meta(pattern=r"^[a-z0-9_]{1,16}$")]
Algorithm = Literal["sequential", "naive", "blend", "temporal_ensembling", "rtc", "prefix"]
ALGORITHM_PARAMS: dict[Algorithm, tuple[str, ...]] = {  # the runtime params that only it looks at
    "sequential": ("policy_update_period",),
    "blend": ("schedule",),
    "temporal_ensembling": ("temporal_ensemble_coeff",),
    "rtc": ("schedule", "max_guidance_weight", "vjp"),
}


class ImageSize(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pixels of one observation image."""

    width: Annotated[int, Meta(gt=0, le=8192)]
    height: Annotated[int, Meta(gt=0, le=8192)]


class RuntimeParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`inference_runtime_params.json`: timing, dimensions, cameras and RTC."""

    HZ: Annotated[float, Meta(gt=0)]  # policy rows per second
    max_delta_deg: Annotated[float, Meta(gt=0)]  # slew limit per row, for groups without their own
    policy_update_period: Positive  # rows between plans, sequential mode
    mono_image_resize: ImageSize
    camera_names: tuple[str, ...]
    proprio_state_dim: Positive
    action_dim: Positive
    action_chunk_size: Annotated[int, Meta(ge=2, le=1_000_000)]  # H; chunks of one never overlap
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
    # A temporal ensemble's i-th oldest chunk weighs exp(-coeff i). ACT's value, for the oldest.
    temporal_ensemble_coeff: Annotated[float, Meta(ge=-10, le=10)] = 0.01
    episode_ticks: NonNegative = 1200  # an episode's length in rows; 0: no end
    warmup_ticks: NonNegative = 100  # rows at its start that are computed and not sent
    max_age_ms: Positive = 500  # an older frame is no frame: inference waits
    inference_timeout_s: Annotated[float, Meta(gt=0)] = 10.0


class TopicField(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where in a message one state key lies."""

    slice: tuple[NonNegative, NonNegative]
    attr: str


class Topic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One topic and what its messages carry. `{robot_id}` in its name is filled in."""

    topic: str
    msg_type: str
    fields: dict[str, TopicField]
    names: tuple[str, ...] = ()  # JointState's names, in the order to insist on; (): not looked at


class RuntimeTopics(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`inference_runtime_topics.json`: which message fields make up state and command."""

    robot_id: str
    HZ: Annotated[float, Meta(gt=0)]
    topics: dict[str, Topic]  # subscribed
    commands: dict[str, Topic] = {}  # published; empty: the robot's own file's
    namespace: str = "/"  # what a relative topic name is relative to


class JointGroup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run of consecutive joints with their limits, in degrees."""

    name: str
    lower_deg: tuple[float, ...]
    upper_deg: tuple[float, ...]
    initial_deg: tuple[float, ...] | None = None  # None: stay where measured
    max_delta_deg: Degrees | None = None  # per row; None: RuntimeParams'
    max_speed_deg_s: Degrees | None = None  # None: max_delta_deg alone
    max_acceleration_deg_s2: Degrees | None = None  # None: a jump is sent at full speed
    max_following_error_deg: Degrees | None = None  # None: the robot's

    @property
    def joints(self) -> int:
        """How many there are."""
        return len(self.lower_deg)


class CameraConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One real camera: what is asked of it, and how its frames become observation images."""

    source: str  # a device, e.g. /dev/v4l/by-id/..., or a video file
    width: Annotated[int, Meta(gt=0, le=8192)]
    height: Annotated[int, Meta(gt=0, le=8192)]
    fps: Annotated[float, Meta(gt=0, le=1000)]
    fourcc: Annotated[str, Meta(min_length=4, max_length=4)] = "MJPG"
    rotate_deg: Literal[0, 90, 180, 270] = 0  # clockwise
    colour: Literal["rgb", "bgr"] = "rgb"  # the image's channels, as the policy expects them
    latency_ms: Milliseconds = 0  # from the exposure to the frame's stamp


class Realtime(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the control process asks of the kernel."""

    priority: Annotated[int, Meta(ge=1, le=98)] = 45
    cpu: NonNegative | Literal["last", "none"] = "last"
    spin_us: NonNegative = 0


class RobotConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`robot.yaml`: the robot's facts."""

    name: str
    driver: str = ""  # a module with BACKENDS, or a .py beside this file; "": rt.robots.<name>
    io: Io = "sim"
    policy: str  # default policy YAML, relative to this file, else to configs/
    state_keys: tuple[str, ...]
    joint_groups: tuple[JointGroup, ...]  # one per state key, same order
    initial_speed_deg_s: Annotated[float, Meta(gt=0)] = 30.0  # per second
    max_state_age_ms: Positive = 200
    limit_margin_deg: Annotated[float, Meta(ge=0)] = 5.0  # first pose: so far outside is accepted
    arrival_tolerance_deg: Annotated[float, Meta(gt=0)] = 5.0  # measured, at the initial pose
    max_following_error_deg: Degrees | None = None  # None: not watched
    following_release_s: Annotated[float, Meta(ge=0)] = 0.5  # followed so long: it goes on
    state_latency_ms: Milliseconds = 0  # from the measurement to the message's stamp
    state_timeout_s: Annotated[float, Meta(gt=0)] = 10.0  # for the first state and frames
    safe_stop_s: Annotated[float, Meta(ge=0, le=60)] = 0.0  # after control was killed; 0: none
    cameras: dict[str, CameraConfig] = {}  # by name; unused with --io sim
    options: dict[str, Any] = {}  # the driver's own
    realtime: Realtime = Realtime()


class RunOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the command line adds for one run."""

    session: str
    algorithm: Algorithm = "rtc"
    io: Io = "sim"
    domain: Annotated[int, Meta(ge=0, le=MAX_DOMAIN)] = 0  # ROS_DOMAIN_ID
    fake: str = ""  # the fake robot's session, if that is what answers; DDS stays on loopback then
    yes: bool = False  # a real robot moves without the operator's `go`
    policy_yaml_path: str
    duration_s: float | None = None
    inject_delay_ms: NonNegative = 0
    dry_run: bool = False
    require_rt: bool = False
    record: str = ""  # the folder to record into; "": nothing is recorded
    sim_seed: NonNegative = 0
    control_core: NonNegative | None = None  # None: control is not pinned
    other_cores: tuple[NonNegative, ...] = ()  # empty: whatever the process was given

    @property
    def real(self) -> bool:
        """Whether a robot beyond this session is reached: a real one, or a fake that plays it."""
        return self.io != "sim"

    @property
    def opens_cameras(self) -> bool:
        """Whether robot.yaml's cameras are opened; else what simulates the robot shows views."""
        return self.real and not self.fake


class Sources(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the configuration came from: errors name these places."""

    robot: str = "robot.yaml"
    params: str = "inference_runtime_params.json"
    topics: str = "inference_runtime_topics.json"
    overrides: tuple[str, ...] = ()  # keys given by --set, e.g. "params.HZ"
