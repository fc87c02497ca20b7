"""IGRIS_C's messages as they are on the wire: XCDR1, final, without keys.

Names and fields are those of the maker's public SDK (December 2025). Every message has one fixed
layout, aligned as C would, so its payload is one numpy record: 62 motors and joints, 300 times a
second, are never 62 Python objects. Verified byte by byte against cyclonedds's own encoding and
rosbags's, and by the SDK's type hashes (tests/test_igris_c.py).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from cyclonedds.idl import IdlEnum, IdlStruct
from cyclonedds.idl.annotations import final
from cyclonedds.idl.types import array, float32, int16, uint16, uint32

T = TypeVar("T", bound=IdlStruct)

MOTORS = 31
LOW_STATE_TOPIC = "rt/lowstate"
LOW_CMD_TOPIC = "rt/lowcmd"

_LITTLE_ENDIAN = b"\x00\x01\x00\x00"  # the encapsulation header of XCDR1
_BYTE_ORDERS: dict[bytes, Literal["<", ">"]] = {b"\x00\x01": "<", b"\x00\x00": ">"}

_IMU_STATE = np.dtype(
    [
        ("quaternion", "<f4", 4),
        ("gyroscope", "<f4", 3),
        ("accelerometer", "<f4", 3),
        ("rpy", "<f4", 3),
    ]
)
_MOTOR_CMD = np.dtype(
    [("id", "<u2"), ("q", "<f4"), ("dq", "<f4"), ("tau", "<f4"), ("kp", "<f4"), ("kd", "<f4")],
    align=True,
)
_MOTOR_STATE = np.dtype(
    [
        ("q", "<f4"),
        ("dq", "<f4"),
        ("tau_est", "<f4"),
        ("temperature", "<i2"),
        ("status_bits", "<u4"),
    ],
    align=True,
)
_JOINT_STATE = np.dtype([("q", "<f4"), ("dq", "<f4"), ("tau_est", "<f4"), ("status_bits", "<u4")])
LOW_CMD = np.dtype([("kinematic_mode", "<u4"), ("motors", _MOTOR_CMD, MOTORS)])
LOW_STATE = np.dtype(
    [
        ("tick", "<u4"),
        ("imu_state", _IMU_STATE),
        ("motor_state", _MOTOR_STATE, MOTORS),
        ("joint_state", _JOINT_STATE, MOTORS),
    ]
)


class KinematicMode(IdlEnum, typename="igris_c::msg::dds::KinematicMode"):
    """What an index means: a motor, or a joint that motors move together."""

    MS = 0
    PJS = 1


# No default, as in the SDK: it is a part of the type's hash, by which DDS knows the type.
KinematicMode.__idl_enum_default_value__ = None  # type: ignore[misc]


def packed(layout: np.dtype[Any]) -> Callable[[type[T]], type[T]]:
    """Have a message type keep `record`, a 0-d array of `layout`, in place of its fields.

    Its annotations still tell DDS its type. `T(record)` takes a record, `T()` one of zeros.
    """
    size = len(_LITTLE_ENDIAN) + layout.itemsize

    def init(self: Any, record: Any = None) -> None:
        self.record = np.zeros((), layout) if record is None else record

    def serialize(self: Any, **_: object) -> bytes:
        return _LITTLE_ENDIAN + bytes(self.record.tobytes())

    def deserialize(cls: Any, data: bytes, /, **_: object) -> Any:
        """Of either byte order; the record cannot be written to. Raises ValueError."""
        order = _BYTE_ORDERS.get(data[:2])
        if order is None or len(data) != size:
            raise ValueError(
                f"expected the header 00010000 and {size - 4} bytes, got {data[:4].hex()} and "
                f"{len(data) - 4}"
            )
        record = np.frombuffer(data, layout.newbyteorder(order), 1, len(_LITTLE_ENDIAN))[0]
        return cls(record)

    def deserialize_key(cls: Any, data: bytes, /, **_: object) -> Any:
        """There is no key; asked for when a sender leaves."""
        return cls()

    def pack(cls: type[T]) -> type[T]:
        methods = {
            "__init__": init,
            "serialize": serialize,
            "deserialize": classmethod(deserialize),
            "deserialize_key": classmethod(deserialize_key),
        }
        for name, method in methods.items():
            setattr(cls, name, method)
        return cls

    return pack


@final
class IMUState(IdlStruct, typename="igris_c::msg::dds::IMUState"):
    """w x y z; rad/s; m/s²; rad."""

    quaternion: array[float32, 4]
    gyroscope: array[float32, 3]
    accelerometer: array[float32, 3]
    rpy: array[float32, 3]


@final
class MotorCmd(IdlStruct, typename="igris_c::msg::dds::MotorCmd"):
    """torque = kp (q − measured) + kd (dq − measured) + tau; rad, rad/s, Nm."""

    id: uint16
    q: float32
    dq: float32
    tau: float32
    kp: float32
    kd: float32


@final
class MotorState(IdlStruct, typename="igris_c::msg::dds::MotorState"):
    """rad, rad/s, Nm; what is wrong with the motor."""

    q: float32
    dq: float32
    tau_est: float32
    temperature: int16
    status_bits: uint32


@final
class JointState(IdlStruct, typename="igris_c::msg::dds::JointState"):
    """rad, rad/s, Nm; what is wrong with the joint."""

    q: float32
    dq: float32
    tau_est: float32
    status_bits: uint32


@packed(LOW_CMD)
@final
class LowCmd(IdlStruct, typename="igris_c::msg::dds::LowCmd"):
    """Commands for every motor; `record` is a LOW_CMD."""

    if TYPE_CHECKING:
        record: Any
    kinematic_mode: KinematicMode
    motors: array[MotorCmd, 31]


@packed(LOW_STATE)
@final
class LowState(IdlStruct, typename="igris_c::msg::dds::LowState"):
    """The whole robot, twice: by motors and by joints; `record` is a LOW_STATE."""

    if TYPE_CHECKING:
        record: Any
    tick: uint32
    imu_state: IMUState
    motor_state: array[MotorState, 31]
    joint_state: array[JointState, 31]
