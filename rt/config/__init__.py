"""Configuration: read once (`load`), cross-checked (`check`), the same everywhere (`schema`)."""

from rt.config.schema import (
    CameraConfig,
    Config,
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
    decode_config,
    encode_config,
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
