"""ROS's messages as they are on the wire: XCDR1, final, without keys.

Names of types and fields are ROS's own. Verified byte by byte against rosbags (tests/test_cdr.py).
cyclonedds reads the annotations and tells others the types; the bytes are `cdr`'s.
"""

from dataclasses import dataclass, field
from typing import Any, Self

from cyclonedds.idl import IdlStruct
from cyclonedds.idl.annotations import final
from cyclonedds.idl.types import float32, float64, int32, sequence, uint32

from rt.cdr import Reader, Writer


@dataclass
@final
class Time(IdlStruct, typename="builtin_interfaces::msg::dds_::Time_"):
    """The sender's wall clock."""

    sec: int32 = 0
    nanosec: uint32 = 0


@dataclass
@final
class Header(IdlStruct, typename="std_msgs::msg::dds_::Header_"):
    """When, and in which frame."""

    stamp: Time = field(default_factory=Time)
    frame_id: str = ""


@dataclass
@final
class JointState(IdlStruct, typename="sensor_msgs::msg::dds_::JointState_"):
    """sensor_msgs/msg/JointState: rad, rad/s, and the maker's unit of effort; all may be empty."""

    header: Header = field(default_factory=Header)
    name: sequence[str] = field(default_factory=list)
    position: sequence[float64] = field(default_factory=list)
    velocity: sequence[float64] = field(default_factory=list)
    effort: sequence[float64] = field(default_factory=list)

    def serialize(self, *_: Any, **__: Any) -> bytes:
        """The bytes, as cyclonedds asks for them."""
        writer = Writer()
        writer.number("i", self.header.stamp.sec)
        writer.number("I", self.header.stamp.nanosec)
        writer.text(self.header.frame_id)
        writer.texts(self.name)
        for values in (self.position, self.velocity, self.effort):
            writer.numbers("d", values)
        return bytes(writer.data)

    @classmethod
    def deserialize(cls, data: bytes, *_: Any, **__: Any) -> Self:
        """The message in `data`. Raises ValueError when there is none."""
        reader = Reader(data)
        header = Header(Time(reader.number("i"), reader.number("I")), reader.text())
        return cls(header, reader.texts(), *(reader.numbers("d") for _ in range(3)))


@dataclass
@final
class MultiArrayDimension(IdlStruct, typename="std_msgs::msg::dds_::MultiArrayDimension_"):
    """One axis of a MultiArray."""

    label: str = ""
    size: uint32 = 0
    stride: uint32 = 0


@dataclass
@final
class MultiArrayLayout(IdlStruct, typename="std_msgs::msg::dds_::MultiArrayLayout_"):
    """The axes of a MultiArray; empty for a plain list."""

    dim: sequence[MultiArrayDimension] = field(default_factory=list)
    data_offset: uint32 = 0


@dataclass
@final
class Float32MultiArray(IdlStruct, typename="std_msgs::msg::dds_::Float32MultiArray_"):
    """std_msgs/msg/Float32MultiArray."""

    layout: MultiArrayLayout = field(default_factory=MultiArrayLayout)
    data: sequence[float32] = field(default_factory=list)

    def serialize(self, *_: Any, **__: Any) -> bytes:
        """The bytes, as cyclonedds asks for them."""
        writer = Writer()
        writer.number("I", len(self.layout.dim))
        for dim in self.layout.dim:
            writer.text(dim.label)
            writer.number("I", dim.size)
            writer.number("I", dim.stride)
        writer.number("I", self.layout.data_offset)
        writer.numbers("f", self.data)
        return bytes(writer.data)

    @classmethod
    def deserialize(cls, data: bytes, *_: Any, **__: Any) -> Self:
        """The message in `data`. Raises ValueError when there is none."""
        reader = Reader(data)
        dim = [
            MultiArrayDimension(reader.text(), reader.number("I"), reader.number("I"))
            for _ in range(reader.number("I"))
        ]
        return cls(MultiArrayLayout(dim, reader.number("I")), reader.numbers("f"))


IDL_TYPES: dict[str, type[IdlStruct]] = {
    "JointState": JointState,
    "Float32MultiArray": Float32MultiArray,
}
"""By the `msg_type` of the topics file."""
