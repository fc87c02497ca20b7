"""Configuration: what may be written (`schema`), read once (`load`), cross-checked (`check`),
and the same everywhere (`config`)."""

from rt.config.config import Config, decode_config, encode_config
from rt.config.schema import (
    CameraConfig,
    ImageSize,
    Io,
    JointGroup,
    Realtime,
    RobotConfig,
    RunOptions,
    RuntimeParams,
    RuntimeTopics,
    Sources,
    Topic,
    TopicField,
)

__all__ = (
    "CameraConfig",
    "Config",
    "ImageSize",
    "Io",
    "JointGroup",
    "Realtime",
    "RobotConfig",
    "RunOptions",
    "RuntimeParams",
    "RuntimeTopics",
    "Sources",
    "Topic",
    "TopicField",
    "decode_config",
    "encode_config",
)
